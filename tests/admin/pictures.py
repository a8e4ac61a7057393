"""Screenshots of the admin of a running installation: `python -m tests.admin.pictures http://… DIRECTORY`.

Reads the password of the operator from standard input. For the pictures in docs/, fill an empty installation with
`python -m tests.admin.seed` first.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.admin.test_browser import ARGUMENTS, LISTS, PHONE, WIDE
from tests.tools import need

VARIANTS = (("light", WIDE), ("dark", WIDE), ("light", PHONE))


def main() -> None:
    url, directory = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    password = sys.stdin.readline().strip()
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        for colours, size in VARIANTS:
            context = browser.new_context(viewport=size, color_scheme=colours)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{url}/admin/")
            page.get_by_label("Username").fill("operator")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{url}/admin/")
            save_screenshots(page, url, directory, f"{colours}-{size['width']}")
            context.close()


def save_screenshots(page: Page, url: str, directory: Path, variant: str) -> None:
    """Save screenshots of the start page, every list, and the first object of each list."""
    page.screenshot(path=directory / f"start-{variant}.png")
    for model in LISTS:
        name = model.replace("/", "-")
        page.goto(f"{url}/admin/{model}/")
        page.screenshot(path=directory / f"{name}-list-{variant}.png")
        first = page.locator(f"#result_list tbody a[href*='/admin/{model}/']").first
        if first.count():
            page.goto(url + str(first.get_attribute("href")))
            page.screenshot(path=directory / f"{name}-{variant}.png")


if __name__ == "__main__":
    main()
