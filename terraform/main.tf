# The installation of the original project plan: network, database, buckets, app, and access rules.

locals {
  name              = "kernex-${var.environment}"
  tags              = ["kernex", "kernex-${var.environment}"]
  has_app           = var.app_platform && var.stage != "base"
  bucket_name       = coalesce(var.bucket_name, var.environment == "production" ? "kernex-bundles" : "kernex-bundles-${var.environment}")
  max_web_instances = var.web_autoscaling == null ? var.web_instances : var.web_autoscaling.max_instances

  # App Platform replaces $${APP_URL} and $${APP_DOMAIN} when it starts a process.
  public_url = var.domain == null ? "$${APP_URL}" : "https://${var.domain}"
  host       = var.domain == null ? "$${APP_DOMAIN}" : var.domain

  # Without Spaces, var.settings and var.secrets contain the settings of the storage.
  settings = merge(one(module.spaces[*].settings), {
    PUBLIC_URL             = local.public_url
    ALLOWED_HOSTS          = local.host
    TRUSTED_PROXY          = "true"
    KERNEX_ON_APP_PLATFORM = "true"
    KERNEX_INSTANCES       = tostring(local.max_web_instances)
    DATABASE_POOL          = tostring(var.connections_per_worker)
    LOG_FORMAT             = "json"
  }, var.settings)

  web_settings = merge(
    { WEB_WORKERS = tostring(var.web_workers) },
    # PgBouncer in transaction mode does not keep prepared statements.
    var.connection_pool == null ? {} : { DATABASE_PREPARE = "false" },
  )

  secrets = merge(
    {
      SECRET_KEY   = var.secret_key
      DATABASE_URL = module.database.private_url
    },
    var.spaces_enabled ? { STORAGE_SECRET_KEY = one(module.spaces[*].secret_key) } : {},
    nonsensitive(var.metrics_token == null) ? {} : { METRICS_TOKEN = var.metrics_token },
    var.secrets,
  )

  # During a deployment, old and new instances run side by side. The scheduler and the migration need two connections
  # each: one for the lock and one for the work. The backup needs three: for the lock, for Django and for pg_dump.
  connections = {
    limit  = local.connection_limits[var.database_size]
    web    = 2 * local.max_web_instances * var.web_workers * var.connections_per_worker
    direct = 4 + (var.backup_size == null ? 0 : 3)
  }
  connections_needed = local.connections.direct + (var.connection_pool == null ? local.connections.web : var.connection_pool)
}

resource "digitalocean_vpc" "this" {
  name        = "${local.name}-${var.region}"
  region      = var.region
  description = "Kernex ${var.environment}: app, database and cluster"
}

module "database" {
  source = "./modules/database"

  name         = "kernex-db-${var.environment}"
  region       = var.region
  vpc_id       = digitalocean_vpc.this.id
  size         = var.database_size
  nodes        = var.database_nodes
  restore_from = var.restore_from
  pool_size    = var.connection_pool
  replica_size = var.read_replica_size
  tags         = local.tags
  alert_emails = var.alert_emails
}

module "spaces" {
  source = "./modules/spaces"
  count  = var.spaces_enabled ? 1 : 0

  name          = local.bucket_name
  region        = var.region
  recovery_days = var.bundle_recovery_days
  backup_days   = var.backup_days
  cdn           = var.cdn
}

module "app" {
  source = "./modules/app"
  count  = local.has_app ? 1 : 0

  name         = local.name
  region       = local.app_regions[var.region]
  vpc_id       = digitalocean_vpc.this.id
  source_code  = { repo = var.github_repo, branch = var.github_branch, deploy_on_push = var.deploy_on_push }
  background   = var.scheduler_size
  domain       = var.domain == null ? null : { name = var.domain, zone = var.dns_zone }
  alert_emails = var.alert_emails
  settings     = local.settings
  web_settings = local.web_settings
  secrets      = local.secrets
  web_secrets  = nonsensitive(var.connection_pool == null) ? {} : { DATABASE_URL = module.database.pool_url }

  # This worker gets the key of the backups bucket instead of the key of the bundles bucket.
  backup = var.backup_size == null ? null : {
    size        = var.backup_size
    time        = var.backup_time
    destination = one(module.spaces[*].backups.destination)
    keep        = var.backup_days
  }
  backup_settings = var.backup_size == null ? {} : merge(
    local.settings, { STORAGE_ACCESS_KEY = one(module.spaces[*].backups.STORAGE_ACCESS_KEY) },
  )
  backup_secrets = var.backup_size == null ? {} : {
    SECRET_KEY         = var.secret_key
    DATABASE_URL       = module.database.private_url
    STORAGE_SECRET_KEY = one(module.spaces[*].backups_secret_key)
  }

  web = {
    size          = var.web_size
    instances     = var.web_instances
    max_instances = local.max_web_instances
    cpu_percent   = try(var.web_autoscaling.cpu_percent, 70)
  }
}

# Without this resource, the database accepts connections from every IP address; with it, only from the listed sources.
resource "digitalocean_database_firewall" "this" {
  count      = var.stage == "open" ? 0 : 1
  cluster_id = module.database.id

  dynamic "rule" {
    for_each = var.database_addresses
    content {
      type  = "ip_addr"
      value = rule.value
    }
  }
  dynamic "rule" {
    for_each = concat(module.app[*].id, module.app_second[*].id)
    content {
      type  = "app"
      value = rule.value
    }
  }
  dynamic "rule" {
    for_each = module.kubernetes[*].id
    content {
      type  = "k8s"
      value = rule.value
    }
  }
}

locals {
  first_origin = var.domain == null ? one(module.app[*].url) : "https://${var.domain}"
  origins      = concat([local.first_origin], module.app_second[*].url)
}

# Only pages of the control plane may upload to the bucket from a browser.
resource "digitalocean_spaces_bucket_cors_configuration" "bundles" {
  count  = var.spaces_enabled && (var.domain != null || local.has_app) ? 1 : 0
  bucket = module.spaces[0].name
  region = var.region

  cors_rule {
    allowed_origins = local.origins
    allowed_methods = ["GET", "PUT"]
    allowed_headers = ["*"]
    expose_headers  = ["ETag"]
    max_age_seconds = 3600
  }
}

# Check the app from outside, like a device. App Platform's own health check is not sufficient.
resource "digitalocean_uptime_check" "health" {
  count  = local.has_app || var.domain != null ? 1 : 0
  name   = "${local.name} health"
  target = "${local.first_origin}/health"
  type   = "https"
}

resource "digitalocean_uptime_alert" "health" {
  for_each   = local.has_app || var.domain != null ? { down = null, ssl_expiry = 14 } : {}
  check_id   = digitalocean_uptime_check.health[0].id
  name       = "${local.name} ${each.key}"
  type       = each.key
  period     = "3m"
  threshold  = each.value
  comparison = each.value == null ? null : "less_than"

  notifications {
    email = var.alert_emails
  }
}

resource "digitalocean_project" "this" {
  name        = local.name
  description = "Ships bundles to a fleet of edge devices"
  purpose     = "Operational / Developer tooling"
  environment = title(var.environment)
  resources = concat(
    [module.database.urn], module.spaces[*].urn, module.spaces[*].backups_urn, module.app[*].urn,
    module.app_second[*].urn, module.kubernetes[*].urn, module.second_region[*].urn,
    digitalocean_database_cluster.valkey[*].urn,
  )
}
