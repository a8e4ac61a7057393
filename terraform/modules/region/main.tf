# A second region: a database replica that can be promoted, and a bucket that survives the loss of the first one.

resource "digitalocean_vpc" "this" {
  name        = "${var.name}-${var.region}"
  region      = var.region
  description = "Kernex's second region"
}

resource "digitalocean_database_replica" "standby" {
  count                = var.is_promoted ? 0 : 1
  cluster_id           = var.cluster_id
  name                 = "${var.name}-${var.region}"
  region               = var.region
  size                 = var.replica_size
  private_network_uuid = digitalocean_vpc.this.id
  tags                 = var.tags
}

resource "digitalocean_spaces_bucket" "copies" {
  name   = var.bucket_name
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

  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_spaces_key" "copies" {
  name = "${var.bucket_name}-writer"

  grant {
    bucket     = digitalocean_spaces_bucket.copies.name
    permission = "readwrite"
  }
}
