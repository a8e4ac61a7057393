output "id" {
  description = "The app's id, which the database's firewall admits."
  value       = digitalocean_app.this.id
}

output "urn" {
  description = "The app's name in a project."
  value       = digitalocean_app.this.urn
}

output "url" {
  description = "Where the app answers."
  value       = digitalocean_app.this.live_url
}
