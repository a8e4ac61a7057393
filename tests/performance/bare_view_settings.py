"""The settings of the control plane, with a bare view for comparison."""

from kernex.settings import *  # noqa: F403

ROOT_URLCONF = "tests.performance.bare_view_urls"
