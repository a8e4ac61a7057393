output "vpc_id" {
  description = "The network of the second region."
  value       = digitalocean_vpc.this.id
}

output "replica_host" {
  description = "The replica's public host; null once it is promoted."
  value       = one(digitalocean_database_replica.standby[*].host)
}

output "bucket" {
  description = "The settings of the bucket of copies, without its secret."
  value = {
    STORAGE_BUCKET       = digitalocean_spaces_bucket.copies.name
    STORAGE_ENDPOINT_URL = "https://${var.region}.digitaloceanspaces.com"
    STORAGE_REGION       = var.region
    STORAGE_ACCESS_KEY   = digitalocean_spaces_key.copies.access_key
  }
}

output "bucket_secret_key" {
  description = "The secret of that bucket's key."
  value       = digitalocean_spaces_key.copies.secret_key
  sensitive   = true
}

output "urn" {
  description = "The bucket's identifier in a DigitalOcean project."
  value       = digitalocean_spaces_bucket.copies.urn
}
