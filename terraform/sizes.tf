# The size of each part. prices.tf lists the available sizes and their prices.

variable "web_size" {
  description = "The size of a web instance. The original project plan uses 512 MB on a shared CPU."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.web_size)
    error_message = "web_size must be one of ${join(", ", keys(local.prices.app))}."
  }
}

variable "web_instances" {
  description = "The number of web instances. With web_autoscaling, the minimum number."
  type        = number
  default     = 2

  validation {
    condition     = var.web_instances >= 1 && var.web_instances <= 64 && floor(var.web_instances) == var.web_instances
    error_message = "web_instances must be a whole number from 1 to 64."
  }
  validation {
    condition     = var.environment != "production" || var.web_instances >= 2
    error_message = "web_instances must be 2 or more in production: a single instance is unavailable each time it restarts."
  }
}

variable "web_autoscaling" {
  description = "Scale from web_instances to `max_instances` when the CPU usage exceeds `cpu_percent`. Requires dedicated CPUs (apps-d-...)."
  type        = object({ max_instances = number, cpu_percent = optional(number, 70) })
  default     = null

  validation {
    condition     = var.web_autoscaling == null || startswith(var.web_size, "apps-d-")
    error_message = "web_autoscaling needs a web_size with dedicated CPUs (apps-d-...): App Platform does not scale instances with shared CPUs."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.max_instances, 0) > var.web_instances && try(var.web_autoscaling.max_instances, 99) <= 64)
    error_message = "web_autoscaling.max_instances must be greater than web_instances and at most 64."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.cpu_percent, 0) >= 20 && try(var.web_autoscaling.cpu_percent, 0) <= 95)
    error_message = "web_autoscaling.cpu_percent must be from 20 to 95."
  }
}

variable "web_workers" {
  description = "WEB_WORKERS: the number of processes in each web instance."
  type        = number
  default     = 2

  validation {
    condition     = var.web_workers >= 1 && var.web_workers <= 64
    error_message = "web_workers must be from 1 to 64."
  }
}

variable "connections_per_worker" {
  description = "DATABASE_POOL: the number of database connections of each process."
  type        = number
  default     = 4

  validation {
    condition     = var.connections_per_worker >= 1 && var.connections_per_worker <= 64
    error_message = "connections_per_worker must be from 1 to 64."
  }
}

variable "scheduler_size" {
  description = "The size of the scheduler and the migration job."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.scheduler_size)
    error_message = "scheduler_size must be one of ${join(", ", keys(local.prices.app))}."
  }
}

variable "backup_size" {
  description = "The size of the worker for the nightly backup. Null: no nightly backup on App Platform."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = var.backup_size == null || contains(keys(local.prices.app), coalesce(var.backup_size, "-"))
    error_message = "backup_size must be one of ${join(", ", keys(local.prices.app))}, or null."
  }
  validation {
    condition     = var.backup_size == null || var.spaces_enabled
    error_message = "backup_size must be null with spaces_enabled = false: the backups bucket is in Spaces. Run `manage.py backup` elsewhere every night."
  }
}

variable "backup_time" {
  description = "The time at which the nightly backup starts: HH:MM in UTC."
  type        = string
  default     = "03:17"

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.backup_time))
    error_message = "backup_time must be a time of day such as 03:17, in UTC."
  }
}

variable "backup_days" {
  description = "The number of days for which a nightly backup is kept."
  type        = number
  default     = 35

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 3650 && floor(var.backup_days) == var.backup_days
    error_message = "backup_days must be a whole number of days from 7 to 3650."
  }
}

variable "database_size" {
  description = "The size of each PostgreSQL node. The original project plan uses 2 CPUs and 4 GB."
  type        = string
  default     = "db-s-2vcpu-4gb"

  validation {
    condition     = contains(keys(local.prices.database), var.database_size)
    error_message = "database_size must be one of ${join(", ", keys(local.prices.database))}."
  }
}

variable "database_nodes" {
  description = "The number of PostgreSQL nodes: 1, or 2 or 3 with standby nodes that take over automatically."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 3], var.database_nodes)
    error_message = "database_nodes must be 1, 2 or 3."
  }
  validation {
    condition     = var.database_nodes == 1 || !endswith(var.database_size, "-1gb")
    error_message = "database_nodes must be 1 for a 1 GB node: DigitalOcean offers no standby for it."
  }
}
