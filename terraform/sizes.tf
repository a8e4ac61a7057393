# The size of each part. The validations name the sizes that exist; prices.tf has their prices.

variable "web_size" {
  description = "The size of a web instance. The original project plan has 512 MB on a shared processor."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.web_size)
    error_message = "web_size must be one of ${join(", ", keys(local.prices.app))}."
  }
}

variable "web_instances" {
  description = "How many web instances run; with web_autoscaling, the minimum."
  type        = number
  default     = 2

  validation {
    condition     = var.web_instances >= 1 && var.web_instances <= 64 && floor(var.web_instances) == var.web_instances
    error_message = "web_instances must be a whole number from 1 to 64."
  }
  validation {
    condition     = var.environment != "production" || var.web_instances >= 2
    error_message = "web_instances must be 2 or more in production: a single one is unavailable each time it restarts."
  }
}

variable "web_autoscaling" {
  description = "Scale from web_instances up to `most` when processors are busier than `cpu_percent`. Dedicated processors (apps-d-...) only."
  type        = object({ most = number, cpu_percent = optional(number, 70) })
  default     = null

  validation {
    condition     = var.web_autoscaling == null || startswith(var.web_size, "apps-d-")
    error_message = "web_autoscaling needs a web_size with dedicated processors (apps-d-...): App Platform does not scale shared ones."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.most, 0) > var.web_instances && try(var.web_autoscaling.most, 99) <= 64)
    error_message = "web_autoscaling.most must be greater than web_instances and at most 64."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.cpu_percent, 0) >= 20 && try(var.web_autoscaling.cpu_percent, 0) <= 95)
    error_message = "web_autoscaling.cpu_percent must be from 20 to 95."
  }
}

variable "web_workers" {
  description = "WEB_WORKERS: processes in each web instance."
  type        = number
  default     = 2

  validation {
    condition     = var.web_workers >= 1 && var.web_workers <= 64
    error_message = "web_workers must be from 1 to 64."
  }
}

variable "worker_connections" {
  description = "DATABASE_POOL: connections that each process keeps to the database."
  type        = number
  default     = 4

  validation {
    condition     = var.worker_connections >= 1 && var.worker_connections <= 64
    error_message = "worker_connections must be from 1 to 64."
  }
}

variable "scheduler_size" {
  description = "The size of the scheduler's instance and of the migration job."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.scheduler_size)
    error_message = "scheduler_size must be one of ${join(", ", keys(local.prices.app))}."
  }
}

variable "backup_size" {
  description = "The size of the worker that backs up every night. Null: no nightly backup on App Platform."
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
  description = "When the nightly backup starts, HH:MM in UTC."
  type        = string
  default     = "03:17"

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.backup_time))
    error_message = "backup_time must be a time of day such as 03:17, in UTC."
  }
}

variable "backup_days" {
  description = "For how many days a nightly backup is kept."
  type        = number
  default     = 35

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 3650 && floor(var.backup_days) == var.backup_days
    error_message = "backup_days must be a whole number of days from 7 to 3650."
  }
}

variable "database_size" {
  description = "The size of each PostgreSQL node. The original project plan has 2 processors and 4 GB."
  type        = string
  default     = "db-s-2vcpu-4gb"

  validation {
    condition     = contains(keys(local.prices.database), var.database_size)
    error_message = "database_size must be one of ${join(", ", keys(local.prices.database))}."
  }
}

variable "database_nodes" {
  description = "1, or 2 or 3 with standby nodes that take over automatically."
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
