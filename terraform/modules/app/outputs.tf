output "id" {
  description = "The app's id, for the database's firewall."
  value       = digitalocean_app.this.id
}

output "urn" {
  description = "The app's identifier in a DigitalOcean project."
  value       = digitalocean_app.this.urn
}

output "url" {
  description = "The app's public URL."
  value       = digitalocean_app.this.live_url
}
