# Managed PostgreSQL 15 with the control plane's database and role. `manage.py grant_perms` grants the role its rights.

locals {
  database = "kernex_db"
  role     = "kernex_app"
  # A cluster that is created from a backup already has both.
  is_restored = var.restore_from != null
  password    = local.is_restored ? one(data.digitalocean_database_user.restored[*].password) : one(digitalocean_database_user.app[*].password)
}

resource "digitalocean_database_cluster" "this" {
  name                 = var.name
  engine               = "pg"
  version              = "15"
  size                 = var.size
  node_count           = var.nodes
  region               = var.region
  private_network_uuid = var.vpc_id
  tags                 = var.tags

  # Choose the hour with the lowest load. A minor release takes seconds, and devices repeat missed heartbeats.
  maintenance_window {
    day  = "sunday"
    hour = "10:00:00"
  }

  dynamic "backup_restore" {
    for_each = var.restore_from == null ? [] : [var.restore_from]
    content {
      database_name     = backup_restore.value.cluster
      backup_created_at = backup_restore.value.at
    }
  }

  lifecycle {
    prevent_destroy = true
    # Used only when the cluster is created.
    ignore_changes = [backup_restore]
  }
}

resource "digitalocean_database_db" "kernex" {
  count      = local.is_restored ? 0 : 1
  cluster_id = digitalocean_database_cluster.this.id
  name       = local.database

  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_database_user" "app" {
  count      = local.is_restored ? 0 : 1
  cluster_id = digitalocean_database_cluster.this.id
  name       = local.role
}

data "digitalocean_database_user" "restored" {
  count      = local.is_restored ? 1 : 0
  cluster_id = digitalocean_database_cluster.this.id
  name       = local.role
}

resource "digitalocean_database_connection_pool" "web" {
  count      = var.pool_size == null ? 0 : 1
  cluster_id = digitalocean_database_cluster.this.id
  name       = "kernex-web"
  mode       = "transaction"
  size       = var.pool_size
  db_name    = local.database
  user       = local.role

  depends_on = [digitalocean_database_db.kernex, digitalocean_database_user.app]
}

resource "digitalocean_database_replica" "read" {
  count                = var.replica_size == null ? 0 : 1
  cluster_id           = digitalocean_database_cluster.this.id
  name                 = "${var.name}-read"
  size                 = var.replica_size
  region               = var.region
  private_network_uuid = var.vpc_id
  tags                 = var.tags
}

resource "digitalocean_monitor_alert" "database" {
  for_each = {
    cpu    = { type = "v1/dbaas/alerts/cpu_alerts", value = 85 }
    memory = { type = "v1/dbaas/alerts/memory_utilization_alerts", value = 90 }
    disk   = { type = "v1/dbaas/alerts/disk_utilization_alerts", value = 75 }
  }
  description = "${var.name}: ${each.key} above ${each.value.value} %"
  type        = each.value.type
  compare     = "GreaterThan"
  value       = each.value.value
  window      = "10m"
  entities    = [digitalocean_database_cluster.this.id]
  enabled     = true

  alerts {
    email = var.alert_emails
  }
}
