# Optional parts, which the original project plan postpones. Each is off until its variable is set.

variable "connection_pool" {
  description = "The number of connections of PgBouncer, which then runs between the web instances and the database. Null: no PgBouncer."
  type        = number
  default     = null

  validation {
    condition     = var.connection_pool == null || (coalesce(var.connection_pool, 0) >= 1 && coalesce(var.connection_pool, 0) <= local.connections.limit - local.connections.direct)
    error_message = "connection_pool must be from 1 to ${local.connections.limit - local.connections.direct} on ${var.database_size}: the scheduler, the migration and the backup connect directly."
  }
}

variable "read_replica_size" {
  description = <<-EOT
    The size of a read replica in the same region, at least as large as database_size. Kernex does not use it yet: it
    uses only the primary. You can promote the replica by hand, or run your own reports on it. A standby node
    (database_nodes), by contrast, takes over automatically. Null: no replica.
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
    The size of a managed Valkey, which DigitalOcean offers instead of Redis. Kernex does not use it yet: it has no cache
    outside PostgreSQL. Enable it only for your own programs. Null: no Valkey.
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
    of the bucket itself. Enable it only for your own public files in the bucket.
  EOT
  type        = bool
  default     = false

  validation {
    condition     = !var.cdn || var.spaces_enabled
    error_message = "cdn needs spaces_enabled = true: it serves a bucket in Spaces."
  }
}

variable "app_platform" {
  description = "Whether Kernex runs on App Platform. Set it to false when Kernex runs on Kubernetes."
  type        = bool
  default     = true

  validation {
    condition     = var.app_platform || var.kubernetes != null
    error_message = "app_platform can be false only if kubernetes is set: Kernex must run on one of the two."
  }
}

variable "kubernetes" {
  description = "The Kubernetes cluster (DOKS) for the manifests in kubernetes/. Null: no cluster."
  type = object({
    version_prefix = optional(string, "1.35.")
    node_size      = optional(string, "s-2vcpu-4gb")
    min_nodes      = optional(number, 2)
    max_nodes      = optional(number, 4)
    ha             = optional(bool, false)
    registry       = optional(string)
  })
  default = null

  validation {
    condition     = var.kubernetes == null || contains(keys(local.prices.node), try(var.kubernetes.node_size, "-"))
    error_message = "kubernetes.node_size must be one of ${join(", ", keys(local.prices.node))}."
  }
  validation {
    condition     = var.kubernetes == null || (try(var.kubernetes.min_nodes, 0) >= 2 && try(var.kubernetes.max_nodes, 0) >= try(var.kubernetes.min_nodes, 0))
    error_message = "kubernetes.min_nodes must be 2 or more, and max_nodes at least as large: a single node is unavailable each time it is replaced."
  }
  validation {
    condition     = var.kubernetes == null || can(regex("^1\\.[0-9]+\\.$", try(var.kubernetes.version_prefix, "-")))
    error_message = "kubernetes.version_prefix must be a minor version with its dot, such as 1.35."
  }
}

variable "second_region" {
  description = <<-EOT
    A second DigitalOcean region with its own network, a replica of the database and a bucket with copies of the bundles.
    With `serve`, it also runs web instances, which write to the database of the first region. Null: no second region.
  EOT
  type        = object({ region = optional(string, "nyc3"), replica_size = optional(string, "db-s-2vcpu-4gb"), serve = optional(bool, false) })
  default     = null

  validation {
    condition     = var.second_region == null || contains(keys(local.app_regions), try(var.second_region.region, "-"))
    error_message = "second_region.region must be one of ${join(", ", keys(local.app_regions))}."
  }
  validation {
    condition     = var.second_region == null || try(var.second_region.region, "-") != var.region
    error_message = "second_region.region must differ from region."
  }
  validation {
    condition     = var.second_region == null || contains(keys(local.prices.database), try(var.second_region.replica_size, "-"))
    error_message = "second_region.replica_size must be one of ${join(", ", keys(local.prices.database))}."
  }
  validation {
    condition     = var.second_region == null || var.spaces_enabled
    error_message = "second_region needs spaces_enabled = true: its bucket is in Spaces."
  }
}

variable "failover_database_url" {
  description = <<-EOT
    DATABASE_URL of the promoted replica, after the first region has failed. Pass it in TF_VAR_failover_database_url. The
    second region then runs all of Kernex, with its own bucket. Null: the first region is in use.
  EOT
  type        = string
  sensitive   = true
  default     = null

  validation {
    condition     = var.failover_database_url == null || try(var.second_region.serve, false)
    error_message = "failover_database_url needs second_region with serve = true: otherwise, no web instances can take over."
  }
  validation {
    condition     = var.failover_database_url == null || can(regex("^postgres(ql)?://[^:]+:[^@]+@[^/]+/.+", coalesce(var.failover_database_url, "-")))
    error_message = "failover_database_url must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
  }
}
