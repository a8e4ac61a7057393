# The outputs of the original project plan under their original names, and the values for the next steps.

output "app_url" {
  description = "The URL of the control plane; null before the app exists."
  value       = one(module.app[*].url)
}

output "database_host" {
  description = "The database's public host, for admitted addresses and with TLS."
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
  description = "DATABASE_URL from an admitted address, to run `manage.py` by hand."
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
  description = "The read replica's public host, for admitted addresses and with TLS; null without a replica."
  value       = module.database.replica_host
}

output "database_replica_url" {
  description = "The read replica's URL from an admitted address, for reports by hand; null without a replica."
  value       = module.database.replica_url
  sensitive   = true
}

output "storage" {
  description = "The settings of the bundles bucket, without its secret; null without Spaces."
  value       = one(module.spaces[*].settings)
}

output "storage_secret_key" {
  description = "STORAGE_SECRET_KEY; null without Spaces."
  value       = one(module.spaces[*].secret_key)
  sensitive   = true
}

output "backups" {
  description = "The destination that `manage.py backup` writes to, and its access key, which replaces that of `storage`; null without Spaces."
  value       = one(module.spaces[*].backups)
}

output "backups_secret_key" {
  description = "STORAGE_SECRET_KEY for `manage.py backup`; null without Spaces."
  value       = one(module.spaces[*].backups_secret_key)
  sensitive   = true
}

output "cdn_endpoint" {
  description = "The CDN's host, which Kernex does not use yet; null without a CDN."
  value       = one(module.spaces[*].cdn_endpoint)
}

output "valkey_url" {
  description = "Valkey's URL inside the network, which Kernex does not use yet; null without Valkey."
  value       = one(digitalocean_database_cluster.valkey[*].private_uri)
  sensitive   = true
}

output "kubernetes" {
  description = "The Kubernetes cluster's name and registry; null without a cluster."
  value       = one([for cluster in module.kubernetes : { name = cluster.name, registry = cluster.registry }])
}

output "second_region" {
  description = "The second region's URL, replica and bucket; null without a second region."
  value = one([for other in module.second_region : {
    app_url      = one(module.app_second[*].url)
    replica_host = other.replica_host
    bucket       = other.bucket
  }])
}

output "second_region_secret_key" {
  description = "STORAGE_SECRET_KEY of the second region's bucket; null without a second region."
  value       = one(module.second_region[*].bucket_secret_key)
  sensitive   = true
}

output "connections" {
  description = "How many connections the database accepts from the role, and how many these sizes open during a deployment."
  value       = merge(local.connections, { needed = local.connections_needed })

  precondition {
    condition     = local.connections_needed <= local.connections.limit
    error_message = "${var.database_size} accepts ${local.connections.limit} connections from the role, and these sizes open up to ${local.connections_needed} during a deployment: choose a larger database_size, fewer instances, workers or worker_connections, or a connection_pool."
  }
}

output "next_step" {
  description = "What to do after this apply."
  value = {
    base     = "Grant the role with `manage.py grant_perms` (ADMIN_DATABASE_URL comes from `terraform output -raw admin_database_url`). Then apply with stage = open."
    open     = "The database admits every address that knows a password. When the app is healthy, apply with stage = complete."
    complete = "Nothing: the database admits only the app and the named addresses."
  }[var.stage]
}
