variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "region" {
  description = "The data centre."
  type        = string
}

variable "vpc_id" {
  description = "The network of the cluster."
  type        = string
}

variable "size" {
  description = "The size of each node."
  type        = string
}

variable "nodes" {
  description = "The number of nodes: one, and its standby nodes."
  type        = number
}

variable "restore_from" {
  description = "The cluster whose backup this one starts with, and the moment. Null: an empty database."
  type        = object({ cluster = string, at = optional(string) })
}

variable "pool_size" {
  description = "PgBouncer's server connections. Null: no PgBouncer."
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
  description = "Who gets alerts."
  type        = list(string)
}
