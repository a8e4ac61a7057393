# The control plane on App Platform: one image, started as web server, scheduler, migration and nightly backup.

locals {
  is_scaled = var.web.max_instances > var.web.instances

  # The settings and secrets of each process. The backup has only the secrets that it needs.
  settings = {
    web        = merge(var.settings, var.web_settings)
    background = var.settings
    backup     = var.backup_settings
  }
  secrets = {
    web        = merge(var.secrets, var.web_secrets)
    background = var.secrets
    backup     = var.backup_secrets
  }

  # The type of each variable by its name. Names are not secret; Terraform cannot iterate over secret values.
  variable_types = {
    for process in ["web", "background", "backup"] : process => merge(
      { for name in keys(local.settings[process]) : name => "GENERAL" },
      { for name in nonsensitive(keys(local.secrets[process])) : name => "SECRET" },
    )
  }
  variables = { for process in ["web", "background", "backup"] : process => merge(local.settings[process], local.secrets[process]) }

  # The processes that run all the time alongside the web server. The Terraform provider (2.99.1) does not support App
  # Platform's cron jobs, so a worker waits until the backup is due.
  workers = merge(
    var.background == null ? {} : {
      scheduler = { process = "background", size = var.background, run_command = "scheduler", grace_seconds = 30 }
    },
    var.backup == null ? {} : {
      backup = { process = "backup", size = var.backup.size, run_command = "nightly ${var.backup.time} backup ${var.backup.destination} --keep ${var.backup.keep}", grace_seconds = 120 }
    },
  )
}

resource "digitalocean_app" "this" {
  spec {
    name   = var.name
    region = var.region
    # Responses depend on the client, so they must not be cached.
    disable_edge_cache = true

    vpc {
      id = var.vpc_id
    }

    dynamic "domain" {
      for_each = var.domain == null ? [] : [var.domain]
      content {
        name = domain.value.name
        zone = domain.value.zone
        type = "PRIMARY"
      }
    }

    dynamic "alert" {
      for_each = concat(
        ["DEPLOYMENT_FAILED", "DOMAIN_FAILED"],
        local.is_scaled ? ["AUTOSCALE_FAILED"] : [],
      )
      content {
        rule = alert.value
        destinations {
          emails = var.alert_emails
        }
      }
    }

    ingress {
      rule {
        component {
          name = "web"
        }
        match {
          path {
            prefix = "/"
          }
        }
      }
    }

    service {
      name               = "web"
      dockerfile_path    = "Dockerfile"
      source_dir         = "/"
      run_command        = "web"
      http_port          = 8000
      instance_size_slug = var.web.size
      instance_count     = local.is_scaled ? null : var.web.instances

      github {
        repo           = var.source_code.repo
        branch         = var.source_code.branch
        deploy_on_push = var.source_code.deploy_on_push
      }

      # An instance that cannot reach the database gets no requests. It is not restarted: that would not help.
      health_check {
        http_path             = "/health"
        port                  = 8000
        initial_delay_seconds = 5
        period_seconds        = 10
        timeout_seconds       = 5
        success_threshold     = 1
        failure_threshold     = 3
      }
      liveness_health_check {
        http_path             = "/health/live"
        port                  = 8000
        initial_delay_seconds = 20
        period_seconds        = 20
        timeout_seconds       = 5
        success_threshold     = 1
        failure_threshold     = 3
      }

      # After SIGTERM, running requests finish within 25 s.
      termination {
        drain_seconds        = 5
        grace_period_seconds = 30
      }

      dynamic "autoscaling" {
        for_each = local.is_scaled ? [var.web] : []
        content {
          min_instance_count = autoscaling.value.instances
          max_instance_count = autoscaling.value.max_instances
          metrics {
            cpu {
              percent = autoscaling.value.cpu_percent
            }
          }
        }
      }

      dynamic "env" {
        for_each = local.variable_types.web
        content {
          key   = env.key
          value = local.variables.web[env.key]
          scope = "RUN_TIME"
          type  = env.value
        }
      }

      dynamic "alert" {
        for_each = { CPU_UTILIZATION = 85, MEM_UTILIZATION = 85, RESTART_COUNT = 3 }
        content {
          rule     = alert.key
          value    = alert.value
          operator = "GREATER_THAN"
          window   = "TEN_MINUTES"
          destinations {
            emails = var.alert_emails
          }
        }
      }
    }

    dynamic "worker" {
      for_each = local.workers
      content {
        name               = worker.key
        dockerfile_path    = "Dockerfile"
        source_dir         = "/"
        run_command        = worker.value.run_command
        instance_size_slug = worker.value.size
        instance_count     = 1

        github {
          repo           = var.source_code.repo
          branch         = var.source_code.branch
          deploy_on_push = var.source_code.deploy_on_push
        }

        termination {
          grace_period_seconds = worker.value.grace_seconds
        }

        dynamic "env" {
          for_each = local.variable_types[worker.value.process]
          content {
            key   = env.key
            value = local.variables[worker.value.process][env.key]
            scope = "RUN_TIME"
            type  = env.value
          }
        }

        dynamic "alert" {
          for_each = { MEM_UTILIZATION = 85, RESTART_COUNT = 3 }
          content {
            rule     = alert.key
            value    = alert.value
            operator = "GREATER_THAN"
            window   = "TEN_MINUTES"
            destinations {
              emails = var.alert_emails
            }
          }
        }
      }
    }

    # Runs once for each release, before a new instance starts. If the migration fails, the release is not deployed.
    dynamic "job" {
      for_each = var.background == null ? [] : [var.background]
      content {
        name               = "migrate"
        kind               = "PRE_DEPLOY"
        dockerfile_path    = "Dockerfile"
        source_dir         = "/"
        run_command        = "migrate"
        instance_size_slug = job.value
        instance_count     = 1

        github {
          repo           = var.source_code.repo
          branch         = var.source_code.branch
          deploy_on_push = var.source_code.deploy_on_push
        }

        termination {
          grace_period_seconds = 120
        }

        dynamic "env" {
          for_each = local.variable_types.background
          content {
            key   = env.key
            value = local.variables.background[env.key]
            scope = "RUN_TIME"
            type  = env.value
          }
        }
      }
    }
  }
}
