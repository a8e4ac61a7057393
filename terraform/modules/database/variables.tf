variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "region" {
  description = "The DigitalOcean region."
  type        = string
}

variable "vpc_id" {
  description = "The id of the cluster's network."
  type        = string
}

variable "size" {
  description = "The size of each node."
  type        = string
}

variable "nodes" {
  description = "The number of nodes: the primary and its standby nodes."
  type        = number
}

variable "restore_from" {
  description = "The cluster whose backup is restored, and the time of that backup. Null: an empty database."
  type        = object({ cluster = string, at = optional(string) })
}

variable "pool_size" {
  description = "The number of PgBouncer's connections to the database. Null: no PgBouncer."
  type        = number
}

variable "replica_size" {
  description = "The size of a read replica in this region. Null: no replica."
  type        = string
}

variable "tags" {
  description = "The cluster's tags."
  type        = list(string)
}

variable "alert_emails" {
  description = "The e-mail addresses that get alerts."
  type        = list(string)
}
