# How large each part is. Validations name what can be had; prices.tf says what it costs.

variable "web_size" {
  description = "The size of one web instance. The seed's is 512 MB on a shared processor."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.web_size)
    error_message = "web_size accepts ${join(", ", keys(local.prices.app))}."
  }
}

variable "web_instances" {
  description = "How many web instances run; the least of them when they scale by themselves."
  type        = number
  default     = 2

  validation {
    condition     = var.web_instances >= 1 && var.web_instances <= 64 && floor(var.web_instances) == var.web_instances
    error_message = "web_instances accepts a whole number from 1 to 64."
  }
  validation {
    condition     = var.environment != "production" || var.web_instances >= 2
    error_message = "web_instances accepts 2 or more in production: one alone is away whenever it restarts."
  }
}

variable "web_autoscaling" {
  description = "Scale from web_instances up to `most` when processors are busier than `cpu_percent`. Dedicated processors (apps-d-...) only."
  type        = object({ most = number, cpu_percent = optional(number, 70) })
  default     = null

  validation {
    condition     = var.web_autoscaling == null || startswith(var.web_size, "apps-d-")
    error_message = "web_autoscaling needs a web_size with dedicated processors (apps-d-...): shared ones are not scaled by App Platform."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.most, 0) > var.web_instances && try(var.web_autoscaling.most, 99) <= 64)
    error_message = "web_autoscaling.most accepts a number above web_instances, up to 64."
  }
  validation {
    condition     = var.web_autoscaling == null || (try(var.web_autoscaling.cpu_percent, 0) >= 20 && try(var.web_autoscaling.cpu_percent, 0) <= 95)
    error_message = "web_autoscaling.cpu_percent accepts 20 to 95."
  }
}

variable "web_workers" {
  description = "WEB_WORKERS: processes in each web instance."
  type        = number
  default     = 2

  validation {
    condition     = var.web_workers >= 1 && var.web_workers <= 64
    error_message = "web_workers accepts 1 to 64."
  }
}

variable "worker_connections" {
  description = "DATABASE_POOL: connections that each process keeps to the database."
  type        = number
  default     = 4

  validation {
    condition     = var.worker_connections >= 1 && var.worker_connections <= 64
    error_message = "worker_connections accepts 1 to 64."
  }
}

variable "scheduler_size" {
  description = "The size of the scheduler's one instance, and of the job that migrates."
  type        = string
  default     = "apps-s-1vcpu-0.5gb"

  validation {
    condition     = contains(keys(local.prices.app), var.scheduler_size)
    error_message = "scheduler_size accepts ${join(", ", keys(local.prices.app))}."
  }
}

variable "database_size" {
  description = "The size of each PostgreSQL node. The seed's has 2 processors and 4 GB."
  type        = string
  default     = "db-s-2vcpu-4gb"

  validation {
    condition     = contains(keys(local.prices.database), var.database_size)
    error_message = "database_size accepts ${join(", ", keys(local.prices.database))}."
  }
  validation {
    condition     = var.environment != "production" || var.database_size != "db-s-1vcpu-1gb"
    error_message = "database_size accepts no 1 GB node in production: its 20 connections do not carry two instances through a deployment."
  }
}

variable "database_nodes" {
  description = "1, or 2 or 3 for standby nodes that take over by themselves."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 3], var.database_nodes)
    error_message = "database_nodes accepts 1, 2 or 3."
  }
  validation {
    condition     = var.database_nodes == 1 || !endswith(var.database_size, "-1gb")
    error_message = "database_nodes accepts 1 for a 1 GB node: DigitalOcean has no standby for it."
  }
}
