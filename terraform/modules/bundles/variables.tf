variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "region" {
  description = "The data centre."
  type        = string
}

variable "recovery_days" {
  description = "For how many days a deleted or overwritten object can be brought back."
  type        = number
}

variable "cdn" {
  description = "Whether caches stand before the bucket."
  type        = bool
}
