# A cluster for the manifests in terraform/kubernetes/, which run the same image and scale automatically.

data "digitalocean_kubernetes_versions" "offered" {
  version_prefix = var.cluster.version_prefix
}

resource "digitalocean_kubernetes_cluster" "this" {
  name                 = var.name
  region               = var.region
  vpc_uuid             = var.vpc_id
  version              = data.digitalocean_kubernetes_versions.offered.latest_version
  ha                   = var.cluster.ha
  auto_upgrade         = true
  surge_upgrade        = true
  registry_integration = var.cluster.registry != null
  tags                 = var.tags

  maintenance_policy {
    day        = "sunday"
    start_time = "10:00"
  }

  node_pool {
    name       = "kernex"
    size       = var.cluster.node_size
    auto_scale = true
    min_nodes  = var.cluster.min_nodes
    max_nodes  = var.cluster.max_nodes
    tags       = var.tags
    labels     = { "kernex/pool" = "kernex" }
  }

  lifecycle {
    # DigitalOcean applies patches in the maintenance window, and the autoscaler sets the number of nodes.
    ignore_changes = [version, node_pool[0].node_count]
  }

  depends_on = [digitalocean_container_registry.this]
}

resource "digitalocean_container_registry" "this" {
  count                  = var.cluster.registry == null ? 0 : 1
  name                   = var.cluster.registry
  subscription_tier_slug = "professional"
  region                 = var.region
}
