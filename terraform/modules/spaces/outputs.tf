output "name" {
  description = "The name of the bundles bucket."
  value       = digitalocean_spaces_bucket.this.name
}

output "urn" {
  description = "The bundles bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.this.urn
}

output "settings" {
  description = "The control plane's settings for the bundles bucket, without the secret."
  value = {
    STORAGE_BUCKET       = digitalocean_spaces_bucket.this.name
    STORAGE_ENDPOINT_URL = "https://${var.region}.digitaloceanspaces.com"
    STORAGE_REGION       = var.region
    STORAGE_ACCESS_KEY   = digitalocean_spaces_key.app.access_key
  }
}

output "secret_key" {
  description = "The secret of the control plane's key."
  value       = digitalocean_spaces_key.app.secret_key
  sensitive   = true
}

output "cdn_endpoint" {
  description = "The CDN's host; null without a CDN."
  value       = one(digitalocean_cdn.this[*].endpoint)
}

output "backups" {
  description = "The destination that `manage.py backup` writes to, and the access key for it."
  value = {
    place              = "s3://${digitalocean_spaces_bucket.backups.name}/${local.backup_prefix}"
    STORAGE_ACCESS_KEY = digitalocean_spaces_key.backups.access_key
  }
}

output "backups_secret_key" {
  description = "The secret of the backups key."
  value       = digitalocean_spaces_key.backups.secret_key
  sensitive   = true
}

output "backups_urn" {
  description = "The backups bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.backups.urn
}
