variable "name" {
  description = "The app's name, 2 to 32 characters."
  type        = string
}

variable "region" {
  description = "App Platform's region, such as sfo."
  type        = string
}

variable "vpc_id" {
  description = "The network in which the app reaches the database."
  type        = string
}

variable "source_code" {
  description = "The repository (owner/name), its branch, and whether each push is deployed."
  type        = object({ repo = string, branch = string, deploy_on_push = bool })
}

variable "web" {
  description = "Size and number of the web instances; `most` above `instances` scales them on dedicated processors."
  type        = object({ size = string, instances = number, most = number, cpu_percent = number })
}

variable "background" {
  description = "The size of scheduler and migration. Null: another app of this database has both."
  type        = string
}

variable "domain" {
  description = "The name that is served, and the zone if DigitalOcean serves it. Null: App Platform's own name."
  type        = object({ name = string, zone = optional(string) })
}

variable "alert_emails" {
  description = "Who is written to."
  type        = list(string)
}

variable "settings" {
  description = "Settings that every process gets."
  type        = map(string)
}

variable "web_settings" {
  description = "Settings that the web instances alone get."
  type        = map(string)
}

variable "secrets" {
  description = "Secret settings that every process gets, save where web_secrets has another value."
  type        = map(string)
  sensitive   = true
}

variable "web_secrets" {
  description = "Secret settings that the web instances alone get."
  type        = map(string)
  sensitive   = true
}
