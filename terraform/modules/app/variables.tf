variable "name" {
  description = "The app's name, 2 to 32 characters."
  type        = string
}

variable "region" {
  description = "App Platform's region, such as sfo."
  type        = string
}

variable "vpc_id" {
  description = "The network in which the app reaches the database."
  type        = string
}

variable "source_code" {
  description = "The repository (owner/name), its branch, and whether each push is deployed."
  type        = object({ repo = string, branch = string, deploy_on_push = bool })
}

variable "web" {
  description = "Size and number of the web instances. `most` above `instances` scales them, on dedicated processors."
  type        = object({ size = string, instances = number, most = number, cpu_percent = number })
}

variable "background" {
  description = "The size of scheduler and migration. Null: another app of this database runs both."
  type        = string
}

variable "backup" {
  description = "The nightly backup: instance size, time of day (HH:MM, UTC), destination, and how many backups are kept. Null: no nightly backup."
  type        = object({ size = string, time = string, place = string, keep = number })
}

variable "backup_settings" {
  description = "All settings of the nightly backup that are not secret."
  type        = map(string)
}

variable "backup_secrets" {
  description = "All secret settings of the nightly backup."
  type        = map(string)
  sensitive   = true
}

variable "domain" {
  description = "The public name, and its zone if DigitalOcean serves it. Null: App Platform's own name."
  type        = object({ name = string, zone = optional(string) })
}

variable "alert_emails" {
  description = "Who gets alerts."
  type        = list(string)
}

variable "settings" {
  description = "Settings of all processes but the backup."
  type        = map(string)
}

variable "web_settings" {
  description = "Settings of the web instances only."
  type        = map(string)
}

variable "secrets" {
  description = "Secret settings of all processes but the backup. web_secrets override them for the web instances."
  type        = map(string)
  sensitive   = true
}

variable "web_secrets" {
  description = "Secret settings of the web instances only."
  type        = map(string)
  sensitive   = true
}
