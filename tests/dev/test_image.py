"""`make image` downloads every wheel that the Dockerfile installs, because the build reaches no package index."""

import re

from dev.image import REQUIREMENTS, ROOT


def test_everything_that_the_dockerfile_installs_is_downloaded() -> None:
    lines = re.findall(r"^COPY (.*) /build/$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = {path for line in lines for path in line.split()}
    assert copied == set(REQUIREMENTS)
