# The seed's outputs, by the seed's names, and what the next step needs.

output "app_url" {
  description = "Where the control plane answers; null before the app."
  value       = one(module.app[*].url)
}

output "database_host" {
  description = "The database's public host: for admitted addresses, with TLS."
  value       = module.database.host
}

output "database_port" {
  description = "The database's port."
  value       = module.database.port
}

output "database_user" {
  description = "The control plane's role."
  value       = module.database.user
}

output "database_password" {
  description = "That role's password: `terraform output -raw database_password`."
  value       = module.database.password
  sensitive   = true
}

output "database_url" {
  description = "DATABASE_URL from an admitted address, for `manage.py` by hand."
  value       = module.database.public_url
  sensitive   = true
}

output "database_private_url" {
  description = "DATABASE_URL inside the network, for the manifests in kubernetes/."
  value       = module.database.private_url
  sensitive   = true
}

output "admin_database_url" {
  description = "ADMIN_DATABASE_URL, for `manage.py grant_perms` alone."
  value       = module.database.admin_url
  sensitive   = true
}

output "database_replica_host" {
  description = "The read replica's host in the network; null without one."
  value       = module.database.replica_host
}

output "storage" {
  description = "The settings of the bucket, without its secret."
  value       = module.bundles.settings
}

output "storage_secret_key" {
  description = "STORAGE_SECRET_KEY."
  value       = module.bundles.secret_key
  sensitive   = true
}

output "backups" {
  description = "Where `manage.py backup` writes, and the settings with which it does beside those of `storage`."
  value       = module.bundles.backups
}

output "backups_secret_key" {
  description = "STORAGE_SECRET_KEY of `manage.py backup`."
  value       = module.bundles.backups_secret_key
  sensitive   = true
}

output "cdn_endpoint" {
  description = "The host of the caches before the bucket; null without them."
  value       = module.bundles.cdn_endpoint
}

output "valkey_url" {
  description = "The cache's address in the network; null without one."
  value       = one(digitalocean_database_cluster.valkey[*].private_uri)
  sensitive   = true
}

output "kubernetes" {
  description = "The cluster's name and registry; null without one."
  value       = one([for cluster in module.kubernetes : { name = cluster.name, registry = cluster.registry }])
}

output "second_region" {
  description = "Where the second region answers and what it keeps; null without one."
  value = one([for other in module.second_region : {
    app_url      = one(module.app_second[*].url)
    replica_host = other.replica_host
    bucket       = other.bucket
  }])
}

output "second_region_secret_key" {
  description = "STORAGE_SECRET_KEY of the second region's bucket; null without one."
  value       = one(module.second_region[*].bucket_secret_key)
  sensitive   = true
}

output "connections" {
  description = "How many connections the database has for the role, and how many these sizes open during a deployment."
  value       = merge(local.connections, { needed = local.connections_needed })

  precondition {
    condition     = local.connections_needed <= local.connections.limit
    error_message = "${var.database_size} takes ${local.connections.limit} connections of the role, and these sizes open up to ${local.connections_needed} during a deployment: choose a larger database_size, fewer instances, workers or worker_connections, or a connection_pool."
  }
}

output "next_step" {
  description = "What comes after this apply."
  value = {
    base     = "Grant the role (ADMIN_DATABASE_URL from `terraform output -raw admin_database_url`): manage.py grant_perms. Then apply with stage = open."
    open     = "The database admits every address that knows a password. Once the app is healthy, apply with stage = complete."
    complete = "Nothing: the database admits the app and the named addresses alone."
  }[var.stage]
}
