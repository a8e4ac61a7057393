output "id" {
  description = "The cluster's id, for the database's firewall."
  value       = digitalocean_kubernetes_cluster.this.id
}

output "urn" {
  description = "The cluster's identifier in a DigitalOcean project."
  value       = digitalocean_kubernetes_cluster.this.urn
}

output "name" {
  description = "The cluster's name, for `doctl kubernetes cluster kubeconfig save`."
  value       = digitalocean_kubernetes_cluster.this.name
}

output "registry" {
  description = "The registry to push images to; null without a registry."
  value       = one(digitalocean_container_registry.this[*].endpoint)
}
