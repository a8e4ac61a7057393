variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "region" {
  description = "The data centre."
  type        = string
}

variable "vpc_id" {
  description = "The network that the cluster listens in."
  type        = string
}

variable "size" {
  description = "The size of each node."
  type        = string
}

variable "nodes" {
  description = "One node and its standbys."
  type        = number
}

variable "restore_from" {
  description = "The cluster, and the moment, whose backup this one begins with. Null: empty."
  type        = object({ cluster = string, at = optional(string) })
}

variable "pool_size" {
  description = "PgBouncer's server connections. Null: no PgBouncer."
  type        = number
}

variable "replica_size" {
  description = "The size of a read replica in this region. Null: none."
  type        = string
}

variable "tags" {
  description = "What the cluster is tagged with."
  type        = list(string)
}

variable "alert_emails" {
  description = "Who is written to."
  type        = list(string)
}
