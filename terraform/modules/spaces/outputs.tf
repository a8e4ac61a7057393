output "name" {
  description = "The name of the bundles bucket."
  value       = digitalocean_spaces_bucket.this.name
}

output "urn" {
  description = "The bundles bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.this.urn
}

output "settings" {
  description = "The settings for the bundles bucket, without the secret key."
  value = {
    STORAGE_BUCKET       = digitalocean_spaces_bucket.this.name
    STORAGE_ENDPOINT_URL = "https://${var.region}.digitaloceanspaces.com"
    STORAGE_REGION       = var.region
    STORAGE_ACCESS_KEY   = digitalocean_spaces_key.app.access_key
  }
}

output "secret_key" {
  description = "STORAGE_SECRET_KEY for the bundles bucket."
  value       = digitalocean_spaces_key.app.secret_key
  sensitive   = true
}

output "cdn_endpoint" {
  description = "The CDN's host. Null without a CDN."
  value       = one(digitalocean_cdn.this[*].endpoint)
}

output "backups" {
  description = "The destination of `manage.py backup`, and its access key."
  value = {
    destination        = "s3://${digitalocean_spaces_bucket.backups.name}/${local.backup_prefix}"
    STORAGE_ACCESS_KEY = digitalocean_spaces_key.backups.access_key
  }
}

output "backups_secret_key" {
  description = "STORAGE_SECRET_KEY for the backups bucket."
  value       = digitalocean_spaces_key.backups.secret_key
  sensitive   = true
}

output "backups_urn" {
  description = "The backups bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.backups.urn
}
