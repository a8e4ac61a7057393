"""kernex.toml and kernex.json of an archive are limited in size and depth before they are parsed."""

import subprocess
import sys
import time

import pytest
from django.conf import settings

from bundles.archives.description import MAX_DEPTH, MAX_TOML_SIZE, parse_description, toml_depth
from bundles.errors import BadBundle
from tests.live import ROOT

KIB = 1024
HOSTILE = {
    "a dotted key": "a" + ".a" * 20_000 + " = 1",
    "a dotted key of quoted parts": '"a"' + '."a"' * 14_000 + " = 1",
    "a dotted table": "[a" + ".a" * 20_000 + "]\n",
    "a dotted key in an inline table": "run = {a" + ".a" * 20_000 + " = 1}",
    "nested arrays": "a = " + "[" * 20_000,
    "nested inline tables": "a = " + "{a = " * 10_000,
}
# How much more memory than at its start a process may use, in bytes.
ALLOWED = 64 * KIB * KIB
LIMITED = f"""
import resource, sys
import django
django.setup()
from bundles.archives.description import parse_description
from bundles.errors import BadBundle
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + {ALLOWED},) * 2)
try:
    parse_description("kernex.toml", sys.stdin.buffer.read())
except BadBundle as error:
    print(error.code)
"""


def parse(text: str) -> dict[str, object]:
    return parse_description("kernex.toml", text.encode())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_description_needs_little_memory(text: str) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "kernex.settings",
        "SECRET_KEY": "x" * 50,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "STATIC_ROOT": str(settings.STATIC_ROOT),
    }
    child = subprocess.run(
        [sys.executable, "-c", LIMITED],
        input=text.encode(),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, b"bad_description\n"), child.stderr.decode()[-500:]


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("a = 1", 1),
        ("a.b.c = 1", 3),
        ("[a.b]\nc = 1.5", 2),
        ("[[a]]\n", 2),
        ("a = [[1], {b = 2}]", 2),
        ('a = "[[[[.....{{{{"', 1),
        ("a = '[[[[.....'  # [[[[ a.b.c.d", 1),
        ('a = """\n[[[[\n"quoted" \\""" .....\n"""\nb = 1', 1),
        ("a = '''\n[[[[ ''' # .....", 1),
        ('"a.b.c.d" = 1', 1),
    ],
)
def test_depth_counts_brackets_and_dots_outside_of_strings(text: str, depth: int) -> None:
    assert toml_depth(text) == depth


def test_nesting_is_accepted_up_to_the_limit() -> None:
    nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert parse(f"run = [{nested}]")
    with pytest.raises(BadBundle) as refusal:
        parse(f"run = [[{nested}]]")
    assert refusal.value.code == "bad_description"


@pytest.mark.parametrize("text", ['"""' + '\\"""' * 16_000, "'''" + "''" * 30_000, '\\"' * 32_000, '"' * 60_000])
def test_the_scan_is_linear(text: str) -> None:
    began = time.monotonic()
    toml_depth(text)
    assert time.monotonic() - began < 2


def test_a_large_description_is_refused() -> None:
    with pytest.raises(BadBundle) as refusal:
        parse("#" * (MAX_TOML_SIZE + 1))
    assert refusal.value.code == "bad_description"
