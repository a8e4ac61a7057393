# The resources of the optional parts in growth.tf.

# Kernex does not use these parts yet. Every plan warns about it, because they cost money.
check "parts_that_kernex_does_not_use_yet" {
  assert {
    condition     = var.read_replica_size == null
    error_message = "read_replica_size is on, but Kernex does not use the replica yet: it uses only the primary. You can promote the replica by hand, or run your own reports on it."
  }
  assert {
    condition     = var.valkey_size == null
    error_message = "valkey_size is on, but Kernex does not use Valkey yet: only your own programs can use it."
  }
  assert {
    condition     = !var.cdn
    error_message = "cdn is on, but Kernex does not use the CDN endpoint yet: devices download from presigned bucket URLs."
  }
}

resource "digitalocean_database_cluster" "valkey" {
  count                = var.valkey_size == null ? 0 : 1
  name                 = "kernex-cache-${var.environment}"
  engine               = "valkey"
  version              = "8"
  size                 = coalesce(var.valkey_size, "-")
  node_count           = 1
  region               = var.region
  private_network_uuid = digitalocean_vpc.this.id
  # A full cache evicts the least recently used entries.
  eviction_policy = "allkeys_lru"
  tags            = local.tags
}

# The primary's firewall rules do not apply to the replica and Valkey, so each gets its own firewall.
resource "digitalocean_database_firewall" "extension" {
  for_each = merge(
    var.read_replica_size == null ? {} : { read_replica = module.database.replica_id },
    var.valkey_size == null ? {} : { valkey = one(digitalocean_database_cluster.valkey[*].id) },
  )
  cluster_id = each.value

  dynamic "rule" {
    for_each = var.database_addresses
    content {
      type  = "ip_addr"
      value = rule.value
    }
  }
  dynamic "rule" {
    for_each = module.app[*].id
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

module "kubernetes" {
  source = "./modules/kubernetes"
  count  = var.kubernetes == null ? 0 : 1

  name    = local.name
  region  = var.region
  vpc_id  = digitalocean_vpc.this.id
  cluster = var.kubernetes
  tags    = local.tags
}

locals {
  has_failed_over = nonsensitive(var.failover_database_url != null)
  has_second_app  = try(var.second_region.serve, false) && local.has_app
}

module "second_region" {
  source = "./modules/region"
  count  = var.second_region == null ? 0 : 1

  name         = local.name
  region       = var.second_region.region
  cluster_id   = module.database.id
  replica_size = var.second_region.replica_size
  is_promoted  = local.has_failed_over
  bucket_name  = "${local.bucket_name}-${var.second_region.region}"
  tags         = local.tags
}

# Web instances in the second region. They write to the database of the first region, through its public host with TLS.
# After a failover they get a scheduler and a migration, and use the replica and the bucket of the second region.
module "app_second" {
  source = "./modules/app"
  count  = local.has_second_app ? 1 : 0

  name         = "${local.name}-${var.second_region.region}"
  region       = local.app_regions[var.second_region.region]
  vpc_id       = module.second_region[0].vpc_id
  source_code  = { repo = var.github_repo, branch = var.github_branch, deploy_on_push = var.deploy_on_push }
  background   = local.has_failed_over ? var.scheduler_size : null
  backup       = null
  domain       = null
  alert_emails = var.alert_emails
  web_settings = { WEB_WORKERS = tostring(var.web_workers) }
  web_secrets  = {}

  backup_settings = {}
  backup_secrets  = {}

  settings = merge(
    local.settings,
    { ALLOWED_HOSTS = join(",", distinct([local.settings.ALLOWED_HOSTS, "$${APP_DOMAIN}"])) },
    local.has_failed_over ? module.second_region[0].bucket : {},
  )
  secrets = merge(
    local.secrets,
    { DATABASE_URL = local.has_failed_over ? var.failover_database_url : module.database.public_url },
    local.has_failed_over ? { STORAGE_SECRET_KEY = module.second_region[0].bucket_secret_key } : {},
  )

  web = { size = var.web_size, instances = var.web_instances, max_instances = var.web_instances, cpu_percent = 70 }
}

resource "digitalocean_spaces_bucket_cors_configuration" "second" {
  count  = local.has_second_app ? 1 : 0
  bucket = module.second_region[0].bucket.STORAGE_BUCKET
  region = var.second_region.region

  cors_rule {
    allowed_origins = local.origins
    allowed_methods = ["GET", "PUT"]
    allowed_headers = ["*"]
    expose_headers  = ["ETag"]
    max_age_seconds = 3600
  }
}
