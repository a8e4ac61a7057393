"""Click-throughs in a real browser: nothing is blocked, nothing is fetched from elsewhere, no error in the console."""

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

from tests.live import ROOT, Live
from tests.tools import need

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
# The text's and the background's colour of an element in sRGB.
COLOURS = """
element => ["color", "backgroundColor"].map((property) => {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = getComputedStyle(element)[property];
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
})
"""
LISTS = [
    "devices/device", "devices/group", "devices/enrolmenttoken", "bundles/bundle", "deployments/deployment",
    "events/event", "auth/user", "auth/group", "tokens/apitoken",
]  # fmt: skip


@dataclass
class Person:
    """A browser page; `problems` are console errors, failed requests, and requests to other hosts."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def record_problems(self) -> None:
        self.page.on("console", self.record_console_error)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.record_foreign_request(request.url))
        self.page.on("response", self.record_failed_response)

    def record_console_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def record_failed_response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status} {response.url}")

    def record_foreign_request(self, url: str) -> None:
        if not url.startswith((self.url + "/", "data:", "blob:")):
            self.problems.append(f"outside: {url}")

    def log_in(self, password: str) -> None:
        self.page.goto(f"{self.url}/admin/")
        self.page.get_by_label("Username").fill("operator")
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("link", name=re.compile("online"))).to_be_visible()

    def open_admin(self, path: str) -> None:
        self.page.goto(f"{self.url}/admin/{path}")

    def run_list_action(self, name: str, action: str) -> None:
        """Select an object of the list and run an action on it."""
        self.page.get_by_role("row", name=re.compile(name)).locator("input.action-select").check()
        self.page.locator("select[name=action]").select_option(action)
        self.page.get_by_title("Run the selected action").click()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def fleet(server: Live) -> Live:
    """The server with the data of a small fleet."""
    for command in (["-m", "tests.admin.seed"], ["manage.py", "collectstatic", "--no-input", "-v0"]):
        completed = subprocess.run(
            [sys.executable, *command], env=server.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stderr[-2000:]
    server.kill_web()
    server.start_web()
    return server


@pytest.fixture(params=["light"])
def person(request: pytest.FixtureRequest, browser: Browser, fleet: Live) -> Iterator[Person]:
    """A signed-in operator. Fails if the browser had problems during the test."""
    context = browser.new_context(viewport=WIDE, color_scheme=request.param)  # type: ignore[arg-type]
    operator = Person(context.new_page(), fleet.url)
    operator.record_problems()
    operator.log_in(fleet.password)
    yield operator
    context.close()
    assert operator.problems == []


def test_a_pending_device_is_approved(person: Person) -> None:
    person.open_admin("devices/device/?state__exact=pending")
    person.run_list_action("edge-007", "approve")
    expect(person.page.get_by_text("They are offered deployments")).to_be_visible()
    person.page.get_by_role("button", name="Approve devices").click()
    expect(person.page.get_by_text("Approved: 1.")).to_be_visible()
    person.open_admin("devices/device/?q=edge-007")
    expect(person.page.get_by_role("row", name=re.compile("edge-007"))).to_contain_text("accepted")


def test_a_pending_device_is_rejected_from_its_own_page(person: Person) -> None:
    person.open_admin("devices/device/?q=edge-022")
    person.page.get_by_role("link", name="edge-022").click()
    person.page.get_by_role("button", name="Reject").click()
    person.page.get_by_role("button", name="Reject devices").click()
    expect(person.page.get_by_text("Rejected: 1.")).to_be_visible()
    expect(person.page.get_by_role("heading", name="What the device reports")).to_be_visible()


def test_the_secret_of_a_token_is_shown_once(person: Person) -> None:
    person.open_admin("devices/enrolmenttoken/add/")
    person.page.get_by_label("Name").fill("night shift")
    person.page.locator("#id_group").select_option(label="lab")
    person.page.get_by_role("button", name="Create token").click()
    secret = person.page.locator("#secret").inner_text()
    assert re.fullmatch(r"kxe_[\w-]{43}(\.[0-9a-f]{64})?", secret)
    person.page.reload()
    expect(person.page.get_by_text("night shift")).to_have_count(1)
    assert secret not in person.page.content()


def test_a_bundle_is_deployed_and_the_deployment_cancelled(person: Person) -> None:
    person.open_admin("devices/device/?q=edge-033")
    person.run_list_action("edge-033", "deploy")
    person.page.get_by_label("Bundle").select_option(label="shelf-vision@0.9.2")
    person.page.get_by_label("Note").fill("one device")
    person.page.get_by_role("button", name="Deploy a bundle").click()
    expect(person.page.get_by_text("The deployment of shelf-vision@0.9.2 was started.")).to_be_visible()
    expect(person.page.locator(".kx-part").first).to_have_attribute("style", re.compile("width: 100%"))
    # The progress bar updates without loading the page again.
    expect(person.page.locator(".kx-legend")).to_contain_text("offered", timeout=20_000)
    person.page.get_by_role("button", name="Cancel this deployment").click()
    person.page.get_by_role("button", name="Cancel deployments").click()
    expect(person.page.get_by_text("Cancelled: 1.")).to_be_visible()


def test_an_archive_is_uploaded(person: Person, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(os.urandom(50_000))
    with tarfile.open(tmp_path / "bundle.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "model.onnx", "model.onnx")
    person.open_admin("bundles/bundle/add/")
    person.page.get_by_label("Name").fill("Bad Name")
    person.page.get_by_label("Version").fill("3.0.0")
    person.page.locator("input[type=file]").set_input_files(tmp_path / "bundle.tar.gz")
    person.page.get_by_role("button", name="Create draft").click()
    expect(person.page.get_by_text("lowercase letters")).to_be_visible()
    person.page.get_by_label("Name").fill("keywords")
    person.page.locator("input[type=file]").set_input_files(tmp_path / "bundle.tar.gz")
    person.page.get_by_role("button", name="Create draft").click()
    expect(person.page.get_by_text("keywords@3.0.0 is a draft now.")).to_be_visible()


@pytest.mark.parametrize("person", ["light", pytest.param("dark", marks=pytest.mark.long)], indirect=True)
def test_lists_forms_and_objects_fit_the_page_width(person: Person) -> None:
    for size in (WIDE, PHONE):
        person.page.set_viewport_size(size)  # type: ignore[arg-type]
        for path in ["", *(f"{model}/" for model in LISTS), *(f"{model}/add/" for model in LISTS if can_add(model))]:
            person.open_admin(path)
            check_width(person.page)
        for model in LISTS:
            person.open_admin(f"{model}/")
            first = person.page.locator(f"#result_list tbody a[href*='/admin/{model}/']").first
            if first.count():
                person.page.goto(person.url + str(first.get_attribute("href")))
                check_width(person.page)


@pytest.mark.parametrize("person", ["light", "dark"], indirect=True)
def test_a_query_is_completed_with_the_keyboard(person: Person) -> None:
    page = person.page
    person.open_admin("devices/device/")
    search, suggestions = page.locator("#searchbar"), page.locator("#kx-suggestions")
    search.click()
    expect(suggestions).to_be_hidden()
    search.press_sequentially("sta")
    expect(suggestions.get_by_role("option")).to_have_text(["statestate = pending"])
    search.press("ArrowDown")
    expect(search).to_have_attribute("aria-activedescendant", "kx-suggestion-0")
    search.press("Enter")
    expect(search).to_have_value("state ")
    search.press_sequentially("= ")
    expect(suggestions.get_by_role("option")).to_have_text(["pending", "accepted", "decommissioned"])
    search.press("ArrowUp")
    search.press("Tab")
    expect(search).to_have_value("state = decommissioned ")
    expect(suggestions).to_be_hidden()
    search.press("ArrowDown")
    expect(suggestions.get_by_role("option").first).to_be_visible()
    search.press("Escape")
    expect(suggestions).to_be_hidden()
    expect(search).to_have_value("state = decommissioned ")
    search.press("Enter")
    page.wait_for_url("**q=state+%3D+decommissioned*")


@pytest.mark.parametrize("person", ["light", "dark"], indirect=True)
def test_suggestions_fit_a_phone_and_can_be_tapped(person: Person) -> None:
    page = person.page
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    person.open_admin("devices/device/")
    search, suggestions = page.locator("#searchbar"), page.locator("#kx-suggestions")
    search.press_sequentially("health = un")
    expect(suggestions.get_by_role("option")).to_have_text(["unhealthy", "unknown"])
    box = suggestions.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    check_width(page)
    assert contrast(*suggestions.evaluate(COLOURS)) > 4.5
    suggestions.get_by_text("unknown").click()
    expect(search).to_have_value("health = unknown ")
    expect(search).to_be_focused()


def test_completion_in_the_middle_keeps_the_rest(person: Person) -> None:
    person.open_admin("devices/device/?q=grou+%3D+lab")
    search = person.page.locator("#searchbar")
    search.evaluate("input => { input.focus(); input.setSelectionRange(3, 3); }")
    search.press("ArrowDown")
    expect(person.page.locator("#kx-suggestions").get_by_role("option")).to_have_count(1)
    search.press("ArrowDown")
    search.press("Enter")
    expect(search).to_have_value("group = lab")


def contrast(*colours: list[float]) -> float:
    """Return the contrast of two sRGB colours as WCAG defines it."""
    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def luminance(channels: list[float]) -> float:
    linear = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in channels)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def can_add(model: str) -> bool:
    return model not in {"devices/device", "events/event"}


def check_width(page: Page) -> None:
    """Check that the page does not overflow horizontally."""
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{page.url} is {overflow} px too wide"


def test_the_api_documentation_loads_nothing_from_other_hosts(person: Person) -> None:
    person.page.goto(f"{person.url}/api/v1/docs")
    expect(person.page.get_by_role("heading", name=re.compile("Kernex"))).to_be_visible(timeout=20_000)
    expect(person.page.get_by_text("/api/v1/devices/register").first).to_be_visible()
