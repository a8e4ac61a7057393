variable "name" {
  description = "The name of the bundles bucket. The backups bucket is NAME-backups."
  type        = string
}

variable "region" {
  description = "The data centre."
  type        = string
}

variable "recovery_days" {
  description = "For how many days a deleted or overwritten object can be recovered."
  type        = number
}

variable "backup_days" {
  description = "For how many days a nightly backup is kept."
  type        = number
}

variable "cdn" {
  description = "Whether a CDN endpoint serves the bundles bucket."
  type        = bool
}
