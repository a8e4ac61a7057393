"""The control plane's own settings, with one bare view beside it to compare with."""

from kernex.settings import *  # noqa: F403

ROOT_URLCONF = "tests.performance.bench_urls"
