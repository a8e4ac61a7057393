"""The admin's page sends an archive to storage, in a real browser."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.admin.test_browser import ARGUMENTS, Person
from tests.bundles.storage.conftest import RemoteBucket
from tests.bundles.storage.tcp_proxy import proxy_to
from tests.live import ROOT, Live, running
from tests.tools import need

pytestmark = pytest.mark.browser
MIB = 1024 * 1024


def make_archive(directory: Path) -> Path:
    (directory / "model.onnx").write_bytes(os.urandom(12 * MIB))
    with tarfile.open(directory / "bundle.tar", "w") as tar:
        tar.add(directory / "model.onnx", "model.onnx")
    return directory / "bundle.tar"


def fill(page: Page, archive: Path, version: str) -> None:
    page.get_by_label("Name").fill("keywords")
    page.get_by_label("Version").fill(version)
    page.locator("input[type=file]").set_input_files(archive)
    page.get_by_role("button", name="Create draft").click()


def manage(server: Live, *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=ROOT, env=server.environment, check=True, stdout=subprocess.DEVNULL)


def test_an_archive_goes_from_the_browser_to_storage(remote_bucket: RemoteBucket, tmp_path: Path) -> None:
    archive, static = make_archive(tmp_path), tmp_path / "static"
    with (
        running(tmp_path, **remote_bucket.environment, STATIC_ROOT=static) as server,
        proxy_to(server.port) as proxy,
        sync_playwright() as playwright,
    ):
        manage(server, "collectstatic", "--no-input", "-v0")
        server.kill_web()
        server.start_web()
        chromium = playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        person = Person(chromium.new_page(), proxy.url)
        person.log_in(server.password)
        page = person.page
        bytes_before = proxy.up
        # The bucket refuses uploads from an origin that its CORS rules do not list.
        person.open_admin("bundles/bundle/add/")
        fill(page, archive, "1.0.0")
        expect(page.get_by_text("Storage cannot be reached from this browser")).to_be_visible()
        manage(server, "prepare_bucket", "--origin", proxy.url)
        person.open_admin("bundles/bundle/add/")
        fill(page, archive, "Bad Version")
        expect(page.get_by_text("lowercase letters")).to_be_visible()
        fill(page, archive, "1.0.0")
        page.wait_for_url(re.compile("/sentarchive/"))
        ready = page.locator("a.kx-link", has_text="keywords@1.0.0")
        for _ in range(60):
            if ready.is_visible():
                break
            page.wait_for_timeout(500)
            page.reload()
        ready.click()
        expect(page.get_by_text("model.onnx").first).to_be_visible()
        chromium.close()
        # The 12 MiB went to storage; the web server got only pages and forms.
        assert remote_bucket.proxy.up > 12 * MIB
        assert proxy.up - bytes_before < MIB
