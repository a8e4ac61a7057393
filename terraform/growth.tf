# Optional parts that the original project plan leaves for later. Each is off until its variable is set.

variable "connection_pool" {
  description = "Put PgBouncer between the web instances and the database, with this many server connections. Null: no PgBouncer."
  type        = number
  default     = null

  validation {
    condition     = var.connection_pool == null || (coalesce(var.connection_pool, 0) >= 1 && coalesce(var.connection_pool, 0) <= local.connections.limit - local.connections.direct)
    error_message = "connection_pool must be from 1 to ${local.connections.limit - local.connections.direct} on ${var.database_size}: the scheduler, the migration and the backup connect directly."
  }
}

variable "read_replica_size" {
  description = <<-EOT
    A read replica in the same region, at least as large as database_size. Kernex does not use it yet: it reads and writes
    on the primary only. Switch it on for a spare to promote by hand, or for reports by hand that would load the primary.
    A standby (database_nodes) takes over automatically instead. Null: no replica.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.read_replica_size == null || contains(keys(local.prices.database), coalesce(var.read_replica_size, "-"))
    error_message = "read_replica_size must be one of ${join(", ", keys(local.prices.database))}, or null."
  }
  validation {
    # A larger size costs more.
    condition     = try(local.prices.database[var.read_replica_size] >= local.prices.database[var.database_size], true)
    error_message = "read_replica_size must be ${var.database_size} or larger: DigitalOcean refuses a replica smaller than its primary."
  }
}

variable "valkey_size" {
  description = <<-EOT
    A managed Valkey, which DigitalOcean offers instead of Redis. Kernex does not use it yet: it keeps no cache outside
    PostgreSQL, and nothing reads this one. Switch it on only for programs of your own beside Kernex. Null: no Valkey.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.valkey_size == null || contains(keys(local.prices.valkey), coalesce(var.valkey_size, "-"))
    error_message = "valkey_size must be one of ${join(", ", keys(local.prices.valkey))}, or null."
  }
}

variable "cdn" {
  description = <<-EOT
    Whether a CDN endpoint serves the bundles bucket. Kernex does not use it yet: devices download from presigned URLs,
    which name the bucket itself. Switch it on only for public files of your own in the bucket.
  EOT
  type        = bool
  default     = false

  validation {
    condition     = !var.cdn || var.spaces_enabled
    error_message = "cdn needs spaces_enabled = true: it serves a bucket in Spaces."
  }
}

variable "app_platform" {
  description = "Whether App Platform serves Kernex. Set it to false once Kubernetes serves."
  type        = bool
  default     = true

  validation {
    condition     = var.app_platform || var.kubernetes != null
    error_message = "app_platform can be false only with kubernetes: one of the two must serve."
  }
}

variable "kubernetes" {
  description = "A Kubernetes cluster (DOKS) for the manifests in kubernetes/. Null: no cluster."
  type = object({
    version_prefix = optional(string, "1.35.")
    node_size      = optional(string, "s-2vcpu-4gb")
    least_nodes    = optional(number, 2)
    most_nodes     = optional(number, 4)
    ha             = optional(bool, false)
    registry       = optional(string)
  })
  default = null

  validation {
    condition     = var.kubernetes == null || contains(keys(local.prices.node), try(var.kubernetes.node_size, "-"))
    error_message = "kubernetes.node_size must be one of ${join(", ", keys(local.prices.node))}."
  }
  validation {
    condition     = var.kubernetes == null || (try(var.kubernetes.least_nodes, 0) >= 2 && try(var.kubernetes.most_nodes, 0) >= try(var.kubernetes.least_nodes, 0))
    error_message = "kubernetes.least_nodes must be 2 or more, and most_nodes at least as large: a single node is unavailable each time it is replaced."
  }
  validation {
    condition     = var.kubernetes == null || can(regex("^1\\.[0-9]+\\.$", try(var.kubernetes.version_prefix, "-")))
    error_message = "kubernetes.version_prefix must be a minor version with its dot, such as 1.35."
  }
}

variable "second_region" {
  description = <<-EOT
    A second data centre: its own network, a replica of the database and a bucket for copies. With `serve`, also web
    instances that write to the database of the first region. Null: no second region.
  EOT
  type        = object({ region = optional(string, "nyc3"), replica_size = optional(string, "db-s-2vcpu-4gb"), serve = optional(bool, false) })
  default     = null

  validation {
    condition     = var.second_region == null || contains(keys(local.app_regions), try(var.second_region.region, "-"))
    error_message = "second_region.region must be one of ${join(", ", keys(local.app_regions))}."
  }
  validation {
    condition     = var.second_region == null || try(var.second_region.region, "-") != var.region
    error_message = "second_region.region must be a data centre other than region."
  }
  validation {
    condition     = var.second_region == null || contains(keys(local.prices.database), try(var.second_region.replica_size, "-"))
    error_message = "second_region.replica_size must be one of ${join(", ", keys(local.prices.database))}."
  }
  validation {
    condition     = var.second_region == null || var.spaces_enabled
    error_message = "second_region needs spaces_enabled = true: its bucket of copies is in Spaces."
  }
}

variable "failover_database_url" {
  description = <<-EOT
    DATABASE_URL of the promoted replica, by TF_VAR_failover_database_url, once the first region is lost. The second
    region then migrates, schedules and serves alone, with its bucket of copies. Null: the first region works.
  EOT
  type        = string
  sensitive   = true
  default     = null

  validation {
    condition     = var.failover_database_url == null || try(var.second_region.serve, false)
    error_message = "failover_database_url needs second_region with serve = true: nothing else could take over."
  }
  validation {
    condition     = var.failover_database_url == null || can(regex("^postgres(ql)?://[^:]+:[^@]+@[^/]+/.+", coalesce(var.failover_database_url, "-")))
    error_message = "failover_database_url must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
  }
}
