"""`kernex.showing` for templates."""

from django import template

from kernex import showing

register = template.Library()
register.filter("age", showing.age)
register.filter("size", showing.size)
