from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "foundation.accounts"
    label = "tokens"  # names the tables and the admin's URLs
    verbose_name = "Accounts"
