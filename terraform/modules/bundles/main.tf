# The bucket of the bundles, closed to the public, and the one key that the control plane has to it.

resource "digitalocean_spaces_bucket" "this" {
  name   = var.name
  region = var.region
  acl    = "private"

  # A key that leaks can delete, but not for good.
  versioning {
    enabled = true
  }

  # The rules of `manage.py prepare_bucket`, which finds nothing missing here. Parts of an upload that nobody finished are
  # paid for and seen by nobody; so is what was uploaded and never became a blob.
  lifecycle_rule {
    id                                     = "kernex-abandoned-parts"
    enabled                                = true
    abort_incomplete_multipart_upload_days = 7
  }

  lifecycle_rule {
    id      = "kernex-leftovers"
    prefix  = "uploads/"
    enabled = true

    expiration {
      days = 7
    }
    noncurrent_version_expiration {
      days = 1
    }
  }

  lifecycle_rule {
    id      = "deleted-versions"
    enabled = true

    noncurrent_version_expiration {
      days = var.recovery_days
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  lifecycle {
    prevent_destroy = true
    # Its rules for browsers are a resource of their own: they name the app, which names the bucket.
    ignore_changes = [cors_rule]
  }
}

resource "digitalocean_spaces_key" "app" {
  name = "${var.name}-app"

  grant {
    bucket     = digitalocean_spaces_bucket.this.name
    permission = "readwrite"
  }

  # A new key is in use before the old one goes.
  lifecycle {
    create_before_destroy = true
  }
}

# Backups lie apart, under a key that the control plane never has: whoever takes it over can not take them back.
resource "digitalocean_spaces_bucket" "backups" {
  name   = "${var.name}-backups"
  region = var.region
  acl    = "private"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    id                                     = "kernex-abandoned-parts"
    enabled                                = true
    abort_incomplete_multipart_upload_days = 7
  }
  lifecycle_rule {
    id      = "deleted-versions"
    enabled = true

    noncurrent_version_expiration {
      days = var.recovery_days
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_spaces_key" "backups" {
  name = "${var.name}-backups"

  grant {
    bucket     = digitalocean_spaces_bucket.backups.name
    permission = "readwrite"
  }
  grant {
    bucket     = digitalocean_spaces_bucket.this.name
    permission = "read"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "digitalocean_cdn" "this" {
  count  = var.cdn ? 1 : 0
  origin = digitalocean_spaces_bucket.this.bucket_domain_name
  # Content is named by its hash and never changes.
  ttl = 604800
}
