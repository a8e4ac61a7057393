# What is built and where. Sizes are in sizes.tf, what is added as the fleet grows in growth.tf.

variable "environment" {
  description = "Which installation this is. It is part of every name, so that both can live in one account."
  type        = string

  validation {
    condition     = contains(["production", "staging"], var.environment)
    error_message = "environment accepts production or staging."
  }
}

variable "stage" {
  description = <<-EOT
    How far the first installation has come: `base` builds all but the app, `open` adds the app while the database admits
    every address (its rule needs the app's id, which exists only after a first deployment that needs the database),
    `complete` closes the database to all but the app and the named addresses. Stay at `complete` afterwards.
  EOT
  type        = string
  default     = "complete"

  validation {
    condition     = contains(["base", "open", "complete"], var.stage)
    error_message = "stage accepts base, open or complete."
  }
  validation {
    condition     = var.stage != "base" || length(var.database_addresses) > 0
    error_message = "stage base needs database_addresses: the machine from which the database role is granted."
  }
}

variable "region" {
  description = "The data centre of database, network and bucket."
  type        = string
  default     = "sfo3"

  validation {
    condition     = contains(keys(local.app_regions), var.region)
    error_message = "region accepts a data centre with App Platform, databases and Spaces: ${join(", ", keys(local.app_regions))}."
  }
}

variable "github_repo" {
  description = "The repository that App Platform builds the Dockerfile of, owner/name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repo))
    error_message = "github_repo accepts owner/name, without an address in front."
  }
}

variable "github_branch" {
  description = "The branch that is deployed."
  type        = string
  default     = "main"
}

variable "deploy_on_push" {
  description = "Whether each push to that branch is deployed."
  type        = bool
  default     = true
}

variable "domain" {
  description = "The name that browsers and devices use. Null: the one that App Platform gives."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain accepts a bare name such as fleet.example.com: no scheme, port or path."
  }
}

variable "dns_zone" {
  description = "The zone of `domain`, if DigitalOcean serves it: its record is then kept by App Platform."
  type        = string
  default     = null

  validation {
    condition     = var.dns_zone == null || (var.domain != null && endswith(coalesce(var.domain, "-"), coalesce(var.dns_zone, "+")))
    error_message = "dns_zone accepts the zone that domain lies in."
  }
}

variable "alert_emails" {
  description = "Who is written to when a deployment, the app, the database or the address fails: members of the team."
  type        = list(string)

  validation {
    condition     = length(var.alert_emails) > 0 && alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails accepts one or more e-mail addresses."
  }
}

variable "database_addresses" {
  description = "Addresses, besides the app, that may reach the database: the machine that grants, migrates and backs up."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.database_addresses : can(cidrhost(strcontains(address, "/") ? address : "${address}/32", 0))])
    error_message = "database_addresses accepts IPv4 addresses and ranges such as 203.0.113.7 or 203.0.113.0/24."
  }
  validation {
    condition     = !anytrue([for address in var.database_addresses : can(regex("/[0-7]$", address))])
    error_message = "database_addresses refuses ranges wider than /8: that is no firewall."
  }
}

variable "restore_from" {
  description = "Make the database from another cluster's backup. `at` (2026-01-31T03:00:00Z) is the moment; null: the latest."
  type        = object({ cluster = string, at = optional(string) })
  default     = null
}

variable "bucket_name" {
  description = "The bucket of the bundles. Null: kernex-bundles, with -staging behind it there. Unique in the region for all customers."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name accepts 3 to 63 small letters, digits and hyphens."
  }
}

variable "bundle_recovery_days" {
  description = "For how many days a deleted or overwritten object of the bucket can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.bundle_recovery_days >= 1 && var.bundle_recovery_days <= 365 && floor(var.bundle_recovery_days) == var.bundle_recovery_days
    error_message = "bundle_recovery_days accepts whole days from 1 to 365."
  }
}

variable "settings" {
  description = "Further settings of the control plane, as docs/configuration.md names them. No secrets: those go into `secrets`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex("SECRET|TOKEN|PASSWORD|DATABASE_URL|_KEY$", name))])
    error_message = "settings accepts names in capitals that are no secrets; TF_VAR_secrets takes those."
  }
}

variable "secret_key" {
  description = "SECRET_KEY, 50 or more random characters, by TF_VAR_secret_key and never from a file."
  type        = string
  sensitive   = true

  validation {
    condition     = length(var.secret_key) >= 50
    error_message = "secret_key accepts 50 or more random characters."
  }
}

variable "metrics_token" {
  description = "METRICS_TOKEN, 20 or more random characters, by TF_VAR_metrics_token. Null: no token reads /metrics."
  type        = string
  sensitive   = true
  default     = null

  validation {
    condition     = var.metrics_token == null || length(coalesce(var.metrics_token, "-")) >= 20
    error_message = "metrics_token accepts 20 or more random characters, or null."
  }
}

variable "secrets" {
  description = "Further secret settings, such as SECRET_KEY_FALLBACKS while SECRET_KEY changes, by TF_VAR_secrets (JSON)."
  type        = map(string)
  sensitive   = true
  default     = {}
}
