output "name" {
  description = "The bucket's name."
  value       = digitalocean_spaces_bucket.this.name
}

output "urn" {
  description = "The bucket's name in a project."
  value       = digitalocean_spaces_bucket.this.urn
}

output "settings" {
  description = "What the control plane must know to use the bucket, without its secret."
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
  description = "The caches' host; null without them."
  value       = one(digitalocean_cdn.this[*].endpoint)
}

output "backups" {
  description = "Where backups go: `manage.py backup` with these settings and the key's secret."
  value = {
    place              = "s3://${digitalocean_spaces_bucket.backups.name}/nightly"
    STORAGE_ACCESS_KEY = digitalocean_spaces_key.backups.access_key
  }
}

output "backups_secret_key" {
  description = "The secret of the key to the backups."
  value       = digitalocean_spaces_key.backups.secret_key
  sensitive   = true
}

output "backups_urn" {
  description = "The backups' bucket in a project."
  value       = digitalocean_spaces_bucket.backups.urn
}
