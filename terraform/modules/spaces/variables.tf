variable "name" {
  description = "The name of the bundles bucket. The backups bucket is named NAME-backups."
  type        = string
}

variable "region" {
  description = "The DigitalOcean region."
  type        = string
}

variable "recovery_days" {
  description = "The number of days for which a deleted or overwritten object can be recovered."
  type        = number
}

variable "backup_days" {
  description = "The number of days for which a nightly backup is kept."
  type        = number
}

variable "cdn" {
  description = "Whether a CDN endpoint serves the bundles bucket."
  type        = bool
}
