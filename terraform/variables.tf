# What is built and where. sizes.tf contains the sizes, growth.tf the optional parts for a larger fleet.

variable "environment" {
  description = "The installation: production or staging. All names contain it, so that both can exist in one account."
  type        = string

  validation {
    condition     = contains(["production", "staging"], var.environment)
    error_message = "environment must be production or staging."
  }
}

variable "stage" {
  description = <<-EOT
    The stage of the first installation. `base` builds everything except the app. `open` adds the app, while the database
    accepts connections from every IP address: the firewall rule needs the app's id, which exists only after the first
    deployment, and that deployment needs the database. `complete` restricts the database to the app and
    database_addresses, and is the final stage.
  EOT
  type        = string
  default     = "complete"

  validation {
    condition     = contains(["base", "open", "complete"], var.stage)
    error_message = "stage must be base, open or complete."
  }
  validation {
    condition     = var.stage != "base" || length(var.database_addresses) > 0
    error_message = "stage base needs database_addresses: the IP address of the machine that runs grant_perms."
  }
}

variable "region" {
  description = "The DigitalOcean region of the database, the network and the buckets."
  type        = string
  default     = "sfo3"

  validation {
    condition     = contains(keys(local.app_regions), var.region)
    error_message = "region must be a DigitalOcean region with App Platform, databases and Spaces: ${join(", ", keys(local.app_regions))}."
  }
}

variable "github_repo" {
  description = "The GitHub repository (owner/name) whose Dockerfile App Platform builds."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repo))
    error_message = "github_repo must be owner/name, without a URL in front."
  }
}

variable "github_branch" {
  description = "The branch to deploy."
  type        = string
  default     = "main"
}

variable "deploy_on_push" {
  description = "Whether each push to that branch is deployed."
  type        = bool
  default     = true
}

variable "domain" {
  description = "The domain name that browsers and devices use. Null: App Platform's default domain."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain must be a bare name such as fleet.example.com: no scheme, port or path."
  }
}

variable "dns_zone" {
  description = "The DNS zone of `domain`, if DigitalOcean serves it. App Platform then manages the DNS record."
  type        = string
  default     = null

  validation {
    condition     = var.dns_zone == null || (var.domain != null && endswith(coalesce(var.domain, "-"), coalesce(var.dns_zone, "+")))
    error_message = "dns_zone must be the zone that contains domain."
  }
}

variable "alert_emails" {
  description = "The e-mail addresses that get a message when a deployment, the app, the database or the uptime check fails. They must belong to members of the team."
  type        = list(string)

  validation {
    condition     = length(var.alert_emails) > 0 && alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails must be one or more e-mail addresses."
  }
}

variable "database_addresses" {
  description = "The IP addresses, besides the app, that may reach the database, such as that of the machine that runs grant_perms."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.database_addresses : can(cidrhost(strcontains(address, "/") ? address : "${address}/32", 0))])
    error_message = "database_addresses must contain IPv4 addresses or ranges such as 203.0.113.7 or 203.0.113.0/24."
  }
  validation {
    condition     = !anytrue([for address in var.database_addresses : can(regex("/[0-7]$", address))])
    error_message = "database_addresses must not contain ranges wider than /8: such a firewall protects nothing."
  }
}

variable "restore_from" {
  description = "The cluster whose backup is restored into the new database. `at` is the time of the backup, such as 2026-01-31T03:00:00Z; null: the latest one."
  type        = object({ cluster = string, at = optional(string) })
  default     = null
}

variable "spaces_enabled" {
  description = <<-EOT
    Whether DigitalOcean Spaces stores bundles and backups. If false, provide another S3-compatible storage: set
    STORAGE_BUCKET and STORAGE_ENDPOINT_URL in `settings`, and STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY in `secrets`.
  EOT
  type        = bool
  default     = true

  validation {
    condition = var.spaces_enabled || (
      contains(keys(var.settings), "STORAGE_BUCKET")
      && length(setintersection(nonsensitive(keys(var.secrets)), ["STORAGE_ACCESS_KEY", "STORAGE_SECRET_KEY"])) == 2
    )
    error_message = "spaces_enabled = false needs another storage: STORAGE_BUCKET in settings, STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY in secrets. App Platform and pods have no persistent disk."
  }
}

variable "bucket_name" {
  description = "The name of the bundles bucket. It must be unique among all customers of the region. Null: kernex-bundles, or kernex-bundles-staging."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must consist of 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "bundle_recovery_days" {
  description = "The number of days for which a deleted or overwritten object of a bucket can be recovered."
  type        = number
  default     = 30

  validation {
    condition     = var.bundle_recovery_days >= 1 && var.bundle_recovery_days <= 365 && floor(var.bundle_recovery_days) == var.bundle_recovery_days
    error_message = "bundle_recovery_days must be a whole number of days from 1 to 365."
  }
}

variable "settings" {
  description = "Additional settings of the control plane (docs/configuration.md). Put secret settings into `secrets`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex("SECRET|TOKEN|PASSWORD|DATABASE_URL|_KEY$", name))])
    error_message = "settings must contain only names in capitals that are not secret. Pass secret settings in TF_VAR_secrets."
  }
}

variable "secret_key" {
  description = "SECRET_KEY: 50 or more random characters. Pass it in TF_VAR_secret_key, never in a file."
  type        = string
  sensitive   = true

  validation {
    condition     = length(var.secret_key) >= 50
    error_message = "secret_key must have at least 50 random characters."
  }
}

variable "metrics_token" {
  description = "METRICS_TOKEN: 20 or more random characters. Pass it in TF_VAR_metrics_token. Null: only API tokens can read /metrics."
  type        = string
  sensitive   = true
  default     = null

  validation {
    condition     = var.metrics_token == null || length(coalesce(var.metrics_token, "-")) >= 20
    error_message = "metrics_token must be null or have at least 20 random characters."
  }
}

variable "secrets" {
  description = "Additional secret settings, such as SECRET_KEY_FALLBACKS while SECRET_KEY changes. Pass them in TF_VAR_secrets (JSON)."
  type        = map(string)
  sensitive   = true
  default     = {}
}
