variable "name" {
  description = "The app's name, 2 to 32 characters."
  type        = string
}

variable "region" {
  description = "App Platform's region, such as sfo."
  type        = string
}

variable "vpc_id" {
  description = "The id of the network through which the app reaches the database."
  type        = string
}

variable "source_code" {
  description = "The repository (owner/name), its branch, and whether each push is deployed."
  type        = object({ repo = string, branch = string, deploy_on_push = bool })
}

variable "web" {
  description = "Size and number of the web instances. If `max_instances` is higher than `instances`, they scale automatically, which requires dedicated CPUs."
  type        = object({ size = string, instances = number, max_instances = number, cpu_percent = number })
}

variable "background" {
  description = "The size of the scheduler and the migration job. Null: another app with the same database runs both."
  type        = string
}

variable "backup" {
  description = "The nightly backup: instance size, time of day (HH:MM, UTC), destination, and how many backups are kept. Null: no nightly backup."
  type        = object({ size = string, time = string, destination = string, keep = number })
}

variable "backup_settings" {
  description = "The non-secret settings of the nightly backup."
  type        = map(string)
}

variable "backup_secrets" {
  description = "The secret settings of the nightly backup."
  type        = map(string)
  sensitive   = true
}

variable "domain" {
  description = "The public domain name, and its DNS zone if DigitalOcean serves it. Null: App Platform's default domain."
  type        = object({ name = string, zone = optional(string) })
}

variable "alert_emails" {
  description = "The e-mail addresses that get alerts."
  type        = list(string)
}

variable "settings" {
  description = "The settings of all processes except the backup."
  type        = map(string)
}

variable "web_settings" {
  description = "Additional settings of the web instances."
  type        = map(string)
}

variable "secrets" {
  description = "The secret settings of all processes except the backup."
  type        = map(string)
  sensitive   = true
}

variable "web_secrets" {
  description = "Additional secret settings of the web instances. They override `secrets`."
  type        = map(string)
  sensitive   = true
}
