"""`foundation.formatting` for templates."""

from django import template

from foundation import formatting

register = template.Library()
register.filter("age", formatting.age)
register.filter("duration", formatting.duration)
register.filter("size", formatting.size)
