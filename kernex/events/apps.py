from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "kernex.events"
    label = "events"
