output "id" {
  description = "The cluster's id."
  value       = digitalocean_database_cluster.this.id
}

output "urn" {
  description = "The cluster's name in a project."
  value       = digitalocean_database_cluster.this.urn
}

output "name" {
  description = "The cluster's name."
  value       = digitalocean_database_cluster.this.name
}

output "host" {
  description = "The public host: TLS, and only for admitted addresses."
  value       = digitalocean_database_cluster.this.host
}

output "port" {
  description = "The port."
  value       = digitalocean_database_cluster.this.port
}

output "user" {
  description = "The control plane's role."
  value       = local.role
}

output "password" {
  description = "That role's password."
  value       = local.password
  sensitive   = true
}

output "admin_url" {
  description = "The owner's address from outside, for `manage.py grant_perms` alone."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require",
    digitalocean_database_cluster.this.user, urlencode(digitalocean_database_cluster.this.password),
    digitalocean_database_cluster.this.host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive = true
}

output "private_url" {
  description = "DATABASE_URL inside the network, straight to PostgreSQL."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_cluster.this.private_host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive  = true
  depends_on = [digitalocean_database_db.kernex]
}

output "public_url" {
  description = "DATABASE_URL from outside the network, straight to PostgreSQL."
  value = format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_cluster.this.host, digitalocean_database_cluster.this.port, local.database,
  )
  sensitive  = true
  depends_on = [digitalocean_database_db.kernex]
}

output "pool_url" {
  description = "DATABASE_URL inside the network through PgBouncer; null without one."
  value = var.pool_size == null ? null : format(
    "postgresql://%s:%s@%s:%s/%s?sslmode=require", local.role, urlencode(local.password),
    digitalocean_database_connection_pool.web[0].private_host, digitalocean_database_connection_pool.web[0].port,
    digitalocean_database_connection_pool.web[0].name,
  )
  sensitive = true
}

output "replica_host" {
  description = "The read replica's host in the network; null without one."
  value       = one(digitalocean_database_replica.reading[*].private_host)
}
