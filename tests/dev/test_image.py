"""`make image` brings every wheel that the Dockerfile installs: the build itself reaches no index."""

import re

from dev.image import REQUIREMENTS, ROOT


def test_all_that_the_dockerfile_installs_is_fetched() -> None:
    lines = re.findall(r"^COPY (.*) /build/$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = {path for line in lines for path in line.split()}
    assert copied == set(REQUIREMENTS)
