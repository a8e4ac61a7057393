# Two private buckets in Spaces, one for bundles and one for backups, each with its own key.

resource "digitalocean_spaces_bucket" "this" {
  name   = var.name
  region = var.region
  acl    = "private"

  # A stolen key can delete objects, but their old versions remain for recovery_days.
  versioning {
    enabled = true
  }

  # The rules that `manage.py prepare_bucket` requires. Parts of an abandoned upload are billed but never listed. Uploads
  # that never became a blob are deleted too.
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
    # The CORS rules are a separate resource: they need the app's URL, and the app needs this bucket's name.
    ignore_changes = [cors_rule]
  }
}

resource "digitalocean_spaces_key" "app" {
  name = "${var.name}-app"

  grant {
    bucket     = digitalocean_spaces_bucket.this.name
    permission = "readwrite"
  }

  # The new key is in use before the old one is deleted.
  lifecycle {
    create_before_destroy = true
  }
}

# Web server and scheduler do not get the key of this bucket, so an attacker who controls them cannot delete backups.
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
  # The nightly dumps and lists of blobs. Blobs have another prefix and remain, because several backups share them.
  lifecycle_rule {
    id      = "old-backups"
    prefix  = "${local.backup_prefix}/kernex-"
    enabled = true

    expiration {
      days = var.backup_days
    }
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
  # A week. The name of a blob contains its digest, so cached content is never outdated.
  ttl = 604800
}

locals {
  backup_prefix = "nightly"
}
