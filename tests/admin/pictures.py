"""Pictures of the admin's pages, of any installation that runs: `python -m tests.admin.pictures http://… DIRECTORY`.

Reads the password of the operator from standard input. For the pictures in docs/, fill an empty installation with
`python -m tests.admin.seed` first.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.admin.test_browser import ARGUMENTS, LISTS, PHONE, WIDE
from tests.tools import need

LOOKS = (("light", WIDE), ("dark", WIDE), ("light", PHONE))


def main() -> None:
    url, directory = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    password = sys.stdin.readline().strip()
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        for colours, size in LOOKS:
            context = browser.new_context(viewport=size, color_scheme=colours)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{url}/admin/")
            page.get_by_label("Username").fill("operator")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{url}/admin/")
            take(page, url, directory, f"{colours}-{size['width']}")
            context.close()


def take(page: Page, url: str, directory: Path, look: str) -> None:
    """The start page, every list, and the first object of each."""
    page.screenshot(path=directory / f"start-{look}.png")
    for one in LISTS:
        name = one.replace("/", "-")
        page.goto(f"{url}/admin/{one}/")
        page.screenshot(path=directory / f"{name}-list-{look}.png")
        first = page.locator(f"#result_list tbody a[href*='/admin/{one}/']").first
        if first.count():
            page.goto(url + str(first.get_attribute("href")))
            page.screenshot(path=directory / f"{name}-{look}.png")


if __name__ == "__main__":
    main()
