variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "region" {
  description = "The DigitalOcean region."
  type        = string
}

variable "vpc_id" {
  description = "The id of the nodes' network."
  type        = string
}

variable "cluster" {
  description = "The version, the nodes and the registry of the cluster."
  type = object({
    version_prefix = string
    node_size      = string
    min_nodes      = number
    max_nodes      = number
    ha             = bool
    registry       = optional(string)
  })
}

variable "tags" {
  description = "The tags of the cluster and its nodes."
  type        = list(string)
}
