variable "name" {
  description = "The installation's name. The region is appended to it."
  type        = string
}

variable "region" {
  description = "The second DigitalOcean region."
  type        = string
}

variable "cluster_id" {
  description = "The database cluster that is replicated."
  type        = string
}

variable "replica_size" {
  description = "The replica's size. To take over, it must be as large as the primary."
  type        = string
}

variable "bucket_name" {
  description = "The name of the bucket with copies of the bundles."
  type        = string
}

variable "tags" {
  description = "The replica's tags."
  type        = list(string)
}

variable "is_promoted" {
  description = "Whether the replica was promoted. It is then an independent database, which Terraform no longer manages."
  type        = bool
}
