# `terraform test` in this folder only plans and creates nothing. It needs a DigitalOcean token that may read.
variables {
  github_repo        = "GouravMukherjee/kernex"
  alert_emails       = ["operations@example.com"]
  database_addresses = ["203.0.113.7"]
  secret_key         = "only-for-tests-only-for-tests-only-for-tests-only-for-tests"
}

run "production_has_the_seeds_sizes" {
  command = plan

  variables {
    environment = "production"
  }

  assert {
    condition     = length(module.app) == 1 && length(digitalocean_database_firewall.this) == 1
    error_message = "production has an app and a closed database"
  }
  assert {
    condition     = output.monthly_cost.items == { backup = 5, database = 60, scheduler = 5, spaces = 5, web = 10 }
    error_message = "the seed's sizes cost what prices.tf says"
  }
  assert {
    condition     = output.monthly_cost.seed_budget.total == 42
    error_message = "the seed's budget is shown beside the cost"
  }
  assert {
    condition     = output.storage.STORAGE_BUCKET == "kernex-bundles"
    error_message = "the bucket has the seed's name"
  }
  assert {
    condition     = length([for rule in digitalocean_database_firewall.this[0].rule : rule if rule.type == "ip_addr"]) == 1
    error_message = "one listed address is allowed"
  }
}

run "staging_is_smaller" {
  command = plan

  variables {
    environment            = "staging"
    web_instances          = 1
    web_workers            = 1
    connections_per_worker = 2
    database_size          = "db-s-1vcpu-1gb"
    backup_size            = null
  }

  assert {
    condition     = output.monthly_cost.total == 30
    error_message = "staging costs 30 dollars"
  }
  assert {
    condition     = output.storage.STORAGE_BUCKET == "kernex-bundles-staging"
    error_message = "staging has a bucket of its own"
  }
}

run "base_has_no_app" {
  command = plan

  variables {
    environment = "production"
    stage       = "base"
  }

  assert {
    condition     = length(module.app) == 0 && output.app_url == null
    error_message = "the base has no app"
  }
}

run "everything_at_once" {
  command = plan

  variables {
    environment       = "production"
    web_size          = "apps-d-1vcpu-1gb"
    web_autoscaling   = { max_instances = 6 }
    database_size     = "db-s-4vcpu-8gb"
    database_nodes    = 2
    connection_pool   = 100
    read_replica_size = "db-s-4vcpu-8gb"
    valkey_size       = "db-s-1vcpu-1gb"
    cdn               = true
    kubernetes        = { registry = "kernex", ha = true }
    second_region     = { serve = true }
  }

  # The warning about the replica, Valkey and the CDN.
  expect_failures = [check.parts_that_kernex_does_not_use_yet]

  assert {
    condition     = output.monthly_cost.total == 68 + 5 + 5 + 240 + 120 + 15 + 5 + 60 + 68 + (48 + 12 + 40 + 20)
    error_message = "every part is added up"
  }
  assert {
    condition     = output.monthly_cost.maximum == output.monthly_cost.total + 4 * 34 + 2 * 24
    error_message = "`maximum` counts all automatically scaled parts at their maximum"
  }
}

run "a_shared_processor_is_not_scaled" {
  command = plan

  variables {
    environment     = "production"
    web_autoscaling = { max_instances = 6 }
  }

  expect_failures = [var.web_autoscaling]
}

run "connections_are_counted" {
  command = plan

  variables {
    environment   = "production"
    web_instances = 12
  }

  expect_failures = [output.connections]
}
