# DigitalOcean's list prices in US dollars a month, and the connections of each database size. Prices change: check them
# before you rely on them.

locals {
  prices = {
    app = {
      "apps-s-1vcpu-0.5gb"     = 5
      "apps-s-1vcpu-1gb-fixed" = 10
      "apps-s-1vcpu-1gb"       = 12
      "apps-s-1vcpu-2gb"       = 25
      "apps-s-2vcpu-4gb"       = 50
      "apps-d-1vcpu-0.5gb"     = 29
      "apps-d-1vcpu-1gb"       = 34
      "apps-d-1vcpu-2gb"       = 39
      "apps-d-1vcpu-4gb"       = 49
      "apps-d-2vcpu-4gb"       = 78
      "apps-d-2vcpu-8gb"       = 98
      "apps-d-4vcpu-8gb"       = 156
      "apps-d-4vcpu-16gb"      = 196
    }
    database = {
      "db-s-1vcpu-1gb"  = 15
      "db-s-1vcpu-2gb"  = 30
      "db-s-2vcpu-4gb"  = 60
      "db-s-4vcpu-8gb"  = 120
      "db-s-6vcpu-16gb" = 240
    }
    valkey = {
      "db-s-1vcpu-1gb" = 15
      "db-s-1vcpu-2gb" = 30
      "db-s-2vcpu-4gb" = 60
    }
    node = {
      "s-2vcpu-2gb" = 18
      "s-2vcpu-4gb" = 24
      "s-4vcpu-8gb" = 48
      "c-2"         = 42
    }
    spaces             = 5 # 250 GiB stored and 1 TiB sent, for all buckets of the account together
    cdn                = 0 # its traffic counts as traffic of Spaces
    kubernetes_ha      = 40
    load_balancer      = 12
    container_registry = 20
  }

  # The budget of the original project plan, for comparison.
  seed_budget = { app = 12, database = 30, bundles = 0 }

  # 25 per GB of memory. PostgreSQL reserves 3 of them for administrators, and grant_perms 2 for people.
  connection_limits = {
    "db-s-1vcpu-1gb"  = 20
    "db-s-1vcpu-2gb"  = 45
    "db-s-2vcpu-4gb"  = 95
    "db-s-4vcpu-8gb"  = 195
    "db-s-6vcpu-16gb" = 395
  }

  # The names of App Platform's regions omit the number.
  app_regions = {
    ams3 = "ams"
    fra1 = "fra"
    nyc3 = "nyc"
    sfo3 = "sfo"
    sgp1 = "sgp"
    syd1 = "syd"
    tor1 = "tor"
    blr1 = "blr"
    lon1 = "lon"
  }
}
