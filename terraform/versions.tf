terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    digitalocean = {
      source = "digitalocean/digitalocean"
      # 2.91.0 is the first that knows an app's liveness check.
      version = ">= 2.91.0, < 3.0.0"
    }
  }

  # The state holds passwords: it lives in a bucket of its own, never beside the code. `terraform init -backend-config=...`
  # names the bucket; docs/infrastructure.md says how it is made.
  backend "s3" {}
}

# DIGITALOCEAN_TOKEN, SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY come from the environment of whoever runs Terraform.
provider "digitalocean" {}
