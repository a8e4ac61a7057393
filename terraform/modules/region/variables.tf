variable "name" {
  description = "The installation's name; the region's goes behind it."
  type        = string
}

variable "region" {
  description = "The second data centre."
  type        = string
}

variable "cluster_id" {
  description = "The database that the replica follows."
  type        = string
}

variable "replica_size" {
  description = "The replica's size: the primary's, if it shall take over."
  type        = string
}

variable "bucket_name" {
  description = "The bucket for copies."
  type        = string
}

variable "tags" {
  description = "What the replica is tagged with."
  type        = list(string)
}

variable "is_promoted" {
  description = "Whether the replica has become a database of its own, which is no longer kept here."
  type        = bool
}
