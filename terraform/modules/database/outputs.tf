output "id" {
  description = "The cluster's id."
  value       = digitalocean_database_cluster.this.id
}

output "urn" {
  description = "The cluster's identifier in a DigitalOcean project."
  value       = digitalocean_database_cluster.this.urn
}

output "name" {
  description = "The cluster's name."
  value       = digitalocean_database_cluster.this.name
}

output "host" {
  description = "The public host. It requires TLS and an allowed IP address."
  value       = digitalocean_database_cluster.this.host
}

output "port" {
  description = "The database's port."
  value       = digitalocean_database_cluster.this.port
}

output "user" {
  description = "The database role of the control plane."
  value       = local.role
}

output "password" {
  description = "The password of the control plane's role."
  value       = local.password
  sensitive   = true
}

output "admin_url" {
  description = "ADMIN_DATABASE_URL from outside the network. Only `manage.py grant_perms` needs it."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require",
    digitalocean_database_cluster.this.user, urlencode(digitalocean_database_cluster.this.password),
    digitalocean_database_cluster.this.host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive = true
}

output "private_url" {
  description = "DATABASE_URL inside the network, without PgBouncer."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_cluster.this.private_host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive  = true
  depends_on = [digitalocean_database_db.kernex]
}

output "public_url" {
  description = "DATABASE_URL from outside the network, without PgBouncer."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_cluster.this.host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive  = true
  depends_on = [digitalocean_database_db.kernex]
}

output "pool_url" {
  description = "DATABASE_URL inside the network, through PgBouncer. Null without PgBouncer."
  value = var.pool_size == null ? null : format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_connection_pool.web[0].private_host, digitalocean_database_connection_pool.web[0].port,
    digitalocean_database_connection_pool.web[0].name,
  )
  sensitive = true
}

output "replica_id" {
  description = "The read replica's id, for its firewall. Null without a replica."
  value       = one(digitalocean_database_replica.read[*].uuid)
}

output "replica_host" {
  description = "The read replica's public host. Null without a replica."
  value       = one(digitalocean_database_replica.read[*].host)
}

output "replica_url" {
  description = "The read replica's URL from outside the network, with the control plane's role. Null without a replica."
  value = one([for replica in digitalocean_database_replica.read : format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    replica.host, replica.port, local.database,
  )])
  sensitive = true
}
