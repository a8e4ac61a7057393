variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "region" {
  description = "The data centre."
  type        = string
}

variable "vpc_id" {
  description = "The network of the nodes."
  type        = string
}

variable "shape" {
  description = "Version, nodes and registry of the cluster."
  type = object({
    version_prefix = string
    node_size      = string
    least_nodes    = number
    most_nodes     = number
    ha             = bool
    registry       = optional(string)
  })
}

variable "tags" {
  description = "The tags of cluster and nodes."
  type        = list(string)
}
