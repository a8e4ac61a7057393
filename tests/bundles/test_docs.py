"""docs/bundles.md agrees with the code."""

import json
import re
from pathlib import Path

from bundles import manifest
from bundles.archives import reader
from bundles.uploads.part_transport import PART_SIZE
from tests.bundles.test_manifest import EXAMPLES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "bundles.md").read_text()


def test_the_example_manifest_is_valid() -> None:
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert manifest.read(blocks[0]).label == "vad@1.0.0"
    assert len(blocks) == 4


def test_every_error_code_is_documented() -> None:
    codes = {bad["code"] for bad in EXAMPLES["bad"]}
    for module in (ROOT / "bundles").rglob("*.py"):
        codes |= set(re.findall(r'(?:BadBundle|Conflict|TooLarge)\(\s*"(\w+)"', module.read_text()))
    assert sorted(code for code in codes if f"`{code}`" not in PAGE) == []


def test_the_limits_are_documented() -> None:
    assert f"{manifest.MAX_FILES:,} entries" in PAGE
    assert f"{reader.MAX_UNPACKED_SIZE // 1024**3} GiB unpacked, or more than {reader.MAX_RATIO} times" in PAGE
    assert f'"part_size": {PART_SIZE}' in PAGE
