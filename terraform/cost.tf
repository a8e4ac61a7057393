# The monthly cost of the chosen sizes, by item.

locals {
  cost_items = {
    web            = local.has_app ? local.prices.app[var.web_size] * var.web_instances : 0
    scheduler      = local.has_app ? local.prices.app[var.scheduler_size] : 0
    backup         = local.has_app && var.backup_size != null ? local.prices.app[coalesce(var.backup_size, var.scheduler_size)] : 0
    database       = local.prices.database[var.database_size] * var.database_nodes
    read_replica   = var.read_replica_size == null ? 0 : local.prices.database[var.read_replica_size]
    valkey         = var.valkey_size == null ? 0 : local.prices.valkey[var.valkey_size]
    spaces         = var.spaces_enabled ? local.prices.spaces : 0
    cdn            = var.cdn ? local.prices.cdn : 0
    second_replica = var.second_region == null ? 0 : local.prices.database[var.second_region.replica_size]
    second_web     = length(module.app_second) == 0 ? 0 : local.prices.app[var.web_size] * var.web_instances
    kubernetes     = var.kubernetes == null ? 0 : local.kubernetes_cost
  }
  kubernetes_cost = try(
    local.prices.node[var.kubernetes.node_size] * var.kubernetes.min_nodes + local.prices.load_balancer
    + (var.kubernetes.ha ? local.prices.kubernetes_ha : 0)
    + (var.kubernetes.registry == null ? 0 : local.prices.container_registry),
    0,
  )
  cost_total = sum(values(local.cost_items))
  seed_total = sum(values(local.seed_budget))
}

output "monthly_cost" {
  description = "US dollars per month at list prices, without traffic and tax. `maximum` counts all automatically scaled parts at their maximum."
  value = {
    items = { for item, dollars in local.cost_items : item => dollars if dollars > 0 }
    total = local.cost_total
    maximum = local.cost_total + (
      local.has_app ? local.prices.app[var.web_size] * (local.max_web_instances - var.web_instances) : 0
      ) + (
      var.kubernetes == null ? 0 : try(local.prices.node[var.kubernetes.node_size] * (var.kubernetes.max_nodes - var.kubernetes.min_nodes), 0)
    )
    seed_budget            = merge(local.seed_budget, { total = local.seed_total })
    above_seed             = local.cost_total - local.seed_total
    months_for_200_dollars = floor(10 * 200 / local.cost_total) / 10
  }
}
