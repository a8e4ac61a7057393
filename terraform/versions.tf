terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    digitalocean = {
      source = "digitalocean/digitalocean"
      # 2.91.0 is the first version with liveness_health_check. docs/infrastructure.md says what was checked.
      version = ">= 2.91.0, < 3.0.0"
    }
  }

  # The state contains passwords. It is kept in a dedicated bucket, never next to the code. `terraform init
  # -backend-config=...` names the bucket; docs/infrastructure.md says how to create it.
  backend "s3" {}
}

# DIGITALOCEAN_TOKEN, SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY come from the environment.
provider "digitalocean" {}
