"""The admin site: unfold's site with events for sign-ins and its own page for unknown URLs."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite

from foundation.accounts.sign_in import SignInForm, record_own_password, record_sign_in


class KernexAdminSite(UnfoldAdminSite):
    login_form = SignInForm

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = super().login(request, extra_context)
        if request.method == "POST":
            record_sign_in(request)
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = super().password_change(request, extra_context)
        if request.method == "POST" and response.status_code == 302:
            record_own_password(request)
        return response

    def catch_all_view(self, request: HttpRequest, url: str) -> HttpResponse:
        """Respond with 404 within the admin. Django's own page would lose the sidebar."""
        context = {**self.each_context(request), "title": "Page not found"}
        return TemplateResponse(request, "adminsite/not_found.html", context, status=404)
