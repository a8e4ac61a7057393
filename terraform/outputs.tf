# The outputs of the original project plan under their original names, and the values that the next steps need.

output "app_url" {
  description = "The URL of the control plane. Null until the app exists."
  value       = one(module.app[*].url)
}

output "database_host" {
  description = "The database's public host. It requires TLS and an allowed IP address."
  value       = module.database.host
}

output "database_port" {
  description = "The database's port."
  value       = module.database.port
}

output "database_user" {
  description = "The database role of the control plane."
  value       = module.database.user
}

output "database_password" {
  description = "The password of that role. `terraform output -raw database_password` shows it."
  value       = module.database.password
  sensitive   = true
}

output "database_url" {
  description = "DATABASE_URL for running `manage.py` by hand. It requires an allowed IP address."
  value       = module.database.public_url
  sensitive   = true
}

output "database_private_url" {
  description = "DATABASE_URL inside the network, for the manifests in kubernetes/."
  value       = module.database.private_url
  sensitive   = true
}

output "admin_database_url" {
  description = "ADMIN_DATABASE_URL. Only `manage.py grant_perms` needs it."
  value       = module.database.admin_url
  sensitive   = true
}

output "database_replica_host" {
  description = "The read replica's public host. It requires TLS and an allowed IP address. Null without a replica."
  value       = module.database.replica_host
}

output "database_replica_url" {
  description = "The read replica's URL, for your own reports. It requires an allowed IP address. Null without a replica."
  value       = module.database.replica_url
  sensitive   = true
}

output "storage" {
  description = "The settings for the bundles bucket, without the secret key. Null without Spaces."
  value       = one(module.spaces[*].settings)
}

output "storage_secret_key" {
  description = "STORAGE_SECRET_KEY for the bundles bucket. Null without Spaces."
  value       = one(module.spaces[*].secret_key)
  sensitive   = true
}

output "backups" {
  description = "The destination of `manage.py backup`, and the access key to use instead of the one in `storage`. Null without Spaces."
  value       = one(module.spaces[*].backups)
}

output "backups_secret_key" {
  description = "STORAGE_SECRET_KEY for `manage.py backup`. Null without Spaces."
  value       = one(module.spaces[*].backups_secret_key)
  sensitive   = true
}

output "cdn_endpoint" {
  description = "The CDN's host, which Kernex does not use yet. Null without a CDN."
  value       = one(module.spaces[*].cdn_endpoint)
}

output "valkey_url" {
  description = "Valkey's URL inside the network, which Kernex does not use yet. Null without Valkey."
  value       = one(digitalocean_database_cluster.valkey[*].private_uri)
  sensitive   = true
}

output "kubernetes" {
  description = "The Kubernetes cluster's name and registry. Null without a cluster."
  value       = one([for cluster in module.kubernetes : { name = cluster.name, registry = cluster.registry }])
}

output "second_region" {
  description = "The second region's URL, replica and bucket. Null without a second region."
  value = one([for other in module.second_region : {
    app_url      = one(module.app_second[*].url)
    replica_host = other.replica_host
    bucket       = other.bucket
  }])
}

output "second_region_secret_key" {
  description = "STORAGE_SECRET_KEY for the second region's bucket. Null without a second region."
  value       = one(module.second_region[*].bucket_secret_key)
  sensitive   = true
}

output "connections" {
  description = "The number of connections that the database accepts from the role, and the number that these sizes need during a deployment."
  value       = merge(local.connections, { needed = local.connections_needed })

  precondition {
    condition     = local.connections_needed <= local.connections.limit
    error_message = "${var.database_size} accepts ${local.connections.limit} connections from the role, but these sizes need up to ${local.connections_needed} during a deployment: increase database_size, reduce the instances, web_workers or connections_per_worker, or set connection_pool."
  }
}

output "next_step" {
  description = "What to do after this apply."
  value = {
    base     = "Grant the role its privileges with `manage.py grant_perms` (`terraform output -raw admin_database_url` shows ADMIN_DATABASE_URL). Then apply with stage = open."
    open     = "The database accepts connections from every IP address. When the app is healthy, apply with stage = complete."
    complete = "Nothing: the database accepts connections only from the app and database_addresses."
  }[var.stage]
}
