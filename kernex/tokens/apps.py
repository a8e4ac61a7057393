from django.apps import AppConfig


class TokensConfig(AppConfig):
    name = "kernex.tokens"
    label = "tokens"
