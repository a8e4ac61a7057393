output "id" {
  description = "The cluster's id, which the database's firewall admits."
  value       = digitalocean_kubernetes_cluster.this.id
}

output "urn" {
  description = "The cluster's name in a project."
  value       = digitalocean_kubernetes_cluster.this.urn
}

output "name" {
  description = "The cluster's name, for `doctl kubernetes cluster kubeconfig save`."
  value       = digitalocean_kubernetes_cluster.this.name
}

output "registry" {
  description = "Where images are pushed; null without a registry."
  value       = one(digitalocean_container_registry.this[*].endpoint)
}
