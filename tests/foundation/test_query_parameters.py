"""Query parameters of lists: unknown ones are refused, known ones are validated."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import URLResolver
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from foundation.api.query_parameters import ListView
from kernex.urls import api

pytestmark = pytest.mark.django_db


class GroupFilter(serializers.Serializer[Any]):
    name = serializers.CharField(required=False, max_length=5)


class GroupSerializer(serializers.ModelSerializer[Group]):
    class Meta:
        model = Group
        fields = ("name",)


class Groups(ListView[Group]):
    authentication_classes = ()
    permission_classes = ()
    serializer_class = GroupSerializer
    filter_class = GroupFilter

    def get_queryset(self) -> Any:
        return Group.objects.filter(**self.filters())

    def post(self, request: Request) -> Any:
        return self.list(request)


def request_groups(query: str, method: str = "get") -> Any:
    return Groups.as_view()(getattr(APIRequestFactory(), method)(f"/groups?{query}"))


def error(query: str) -> tuple[int, str]:
    response = request_groups(query)
    return response.status_code, response.data["error"]["code"]


@pytest.mark.parametrize("query", ["", "name=a", "page_size=2", "name=a&page_size=2"])
def test_known_parameters_are_accepted(query: str) -> None:
    assert request_groups(query).status_code == 200


@pytest.mark.parametrize("query", ["nmae=a", "name=a&bundle=x", "Name=a", "%00=1", "=", "page=2"])
def test_an_unknown_parameter_is_refused(query: str) -> None:
    assert error(query) == (400, "unknown_parameter")


def test_the_refusal_lists_the_known_parameters() -> None:
    body = request_groups("nmae=a").data["error"]
    assert body["parameters"] == ["name", "cursor", "page_size"]
    assert "'nmae'" in body["message"]


def test_a_repeated_parameter_is_refused() -> None:
    assert error("name=a&name=b") == (400, "repeated_parameter")


def test_a_wrong_value_is_refused() -> None:
    assert error("name=toolong") == (400, "invalid")


def test_a_filter_limits_the_results() -> None:
    for name in "ab":
        Group.objects.create(name=name)
    assert [row["name"] for row in request_groups("name=a").data["results"]] == ["a"]


def test_a_post_ignores_the_query() -> None:
    assert request_groups("nosuch=1", "post").status_code == 200


def list_views() -> list[type]:
    views = [getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
             for resolver in api if isinstance(resolver, URLResolver) for pattern in resolver.url_patterns]  # fmt: skip
    return [view for view in views if isinstance(view, type) and issubclass(view, ListAPIView)]


def test_every_list_of_the_api_refuses_unknown_parameters() -> None:
    assert len(list_views()) > 5
    assert [view for view in list_views() if not issubclass(view, ListView)] == []
