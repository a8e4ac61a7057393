"""The images, built once for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.image import MIRROR, TARGETS, Builder, build_all, locked_builder
from tests.image.container import Image, unpacked
from tests.live import ROOT
from tests.tools import need

# The directory of `make image`, so that the base is built only once. KERNEX_IMAGE_DIR names one with finished images.
FINISHED = os.environ.get("KERNEX_IMAGE_DIR")
DIRECTORY = Path(FINISHED or ROOT / "var" / "image")


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    for program in ("buildah", "debootstrap", "runc"):
        need(program)
    if not FINISHED:
        build_all(DIRECTORY, MIRROR)
    with locked_builder(DIRECTORY) as builder:
        yield builder


@pytest.fixture(scope="session")
def control_plane(builder: Builder) -> Iterator[Image]:
    with unpacked(builder, TARGETS["control-plane"]) as image:
        yield image


@pytest.fixture(scope="session")
def agent(builder: Builder) -> Iterator[Image]:
    with unpacked(builder, TARGETS["agent"]) as image:
        yield image
