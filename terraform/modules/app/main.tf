# The control plane on App Platform: one image, started as `web`, `scheduler` and `migrate`.

locals {
  web_secrets = merge(var.secrets, var.web_secrets)
  # The names are no secret, and a block can not be repeated over a secret.
  secret_names     = nonsensitive(keys(var.secrets))
  web_secret_names = nonsensitive(keys(local.web_secrets))
  web_settings     = merge(var.settings, var.web_settings)
  is_scaled        = var.web.most > var.web.instances
}

resource "digitalocean_app" "this" {
  spec {
    name   = var.name
    region = var.region
    # Answers depend on who asks; no cache may keep one.
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

      # An instance whose database is away gets no requests, and is not killed for it: a restart would not help.
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

      # Requests under way end within 25 s of the order to stop.
      termination {
        drain_seconds        = 5
        grace_period_seconds = 30
      }

      dynamic "autoscaling" {
        for_each = local.is_scaled ? [var.web] : []
        content {
          min_instance_count = autoscaling.value.instances
          max_instance_count = autoscaling.value.most
          metrics {
            cpu {
              percent = autoscaling.value.cpu_percent
            }
          }
        }
      }

      dynamic "env" {
        for_each = local.web_settings
        content {
          key   = env.key
          value = env.value
          scope = "RUN_TIME"
          type  = "GENERAL"
        }
      }
      dynamic "env" {
        for_each = toset(local.web_secret_names)
        content {
          key   = env.value
          value = local.web_secrets[env.value]
          scope = "RUN_TIME"
          type  = "SECRET"
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
      for_each = var.background == null ? [] : [var.background]
      content {
        name               = "scheduler"
        dockerfile_path    = "Dockerfile"
        source_dir         = "/"
        run_command        = "scheduler"
        instance_size_slug = worker.value
        instance_count     = 1

        github {
          repo           = var.source_code.repo
          branch         = var.source_code.branch
          deploy_on_push = var.source_code.deploy_on_push
        }

        termination {
          grace_period_seconds = 30
        }

        dynamic "env" {
          for_each = var.settings
          content {
            key   = env.key
            value = env.value
            scope = "RUN_TIME"
            type  = "GENERAL"
          }
        }
        dynamic "env" {
          for_each = toset(local.secret_names)
          content {
            key   = env.value
            value = var.secrets[env.value]
            scope = "RUN_TIME"
            type  = "SECRET"
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

    # Runs once a release, before any new instance starts; a release whose migration fails is not deployed.
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
          for_each = var.settings
          content {
            key   = env.key
            value = env.value
            scope = "RUN_TIME"
            type  = "GENERAL"
          }
        }
        dynamic "env" {
          for_each = toset(local.secret_names)
          content {
            key   = env.value
            value = var.secrets[env.value]
            scope = "RUN_TIME"
            type  = "SECRET"
          }
        }
      }
    }
  }
}
