output "vpc_id" {
  description = "The id of the second region's network."
  value       = digitalocean_vpc.this.id
}

output "replica_host" {
  description = "The replica's public host. Null after its promotion."
  value       = one(digitalocean_database_replica.standby[*].host)
}

output "bucket" {
  description = "The settings for the bucket with copies of the bundles, without the secret key."
  value = {
    STORAGE_BUCKET       = digitalocean_spaces_bucket.copies.name
    STORAGE_ENDPOINT_URL = "https://${var.region}.digitaloceanspaces.com"
    STORAGE_REGION       = var.region
    STORAGE_ACCESS_KEY   = digitalocean_spaces_key.copies.access_key
  }
}

output "bucket_secret_key" {
  description = "STORAGE_SECRET_KEY for that bucket."
  value       = digitalocean_spaces_key.copies.secret_key
  sensitive   = true
}

output "urn" {
  description = "The bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.copies.urn
}
