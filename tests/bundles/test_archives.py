"""Archives are read member by member and never unpacked; a refused archive leaves nothing behind."""

import gzip
import io
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundles.archives import reader
from bundles.archives.drafting import draft_from_archive
from bundles.errors import BadBundle, StorageFull
from bundles.models import Blob, Bundle, Upload
from bundles.publishing import publish
from bundles.uploads.verification import verify_bundles, verify_uploads
from foundation.errors import Conflict
from tests.factories import make_user

pytestmark = pytest.mark.django_db
CONTENTS = {"run.py": b"print(1)\n", "data/model.bin": b"\0" * 3000, "data/empty": b"", "same.py": b"print(1)\n"}


def info(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def tar_of(contents: dict[str, bytes], *entries: tarfile.TarInfo, prefix: str = "", **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name, content in contents.items():
            mode = 0o755 if name == "run.py" else 0o644
            tar.addfile(info(prefix + name, len(content), mode=mode), io.BytesIO(content))
        for entry in entries:
            tar.addfile(entry)
    return out.getvalue()


def zip_of(contents: dict[str, bytes], *entries: tuple[zipfile.ZipInfo, bytes], prefix: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("data") if hasattr(archive, "mkdir") else None
        for name, content in contents.items():
            entry = zipfile.ZipInfo(prefix + name)
            entry.external_attr = (stat.S_IFREG | (0o755 if name == "run.py" else 0o644)) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        for entry, content in entries:
            archive.writestr(entry, content)
    return out.getvalue()


def link(name: str) -> tuple[zipfile.ZipInfo, bytes]:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry, b"/etc/passwd"


def draft(archive: bytes, **described: Any) -> Bundle:
    return draft_from_archive(
        io.BytesIO(archive), "vad", "1.0.0", actor="operator:alice", user=make_user(), **described
    )


def gz(content: bytes) -> bytes:
    return gzip.compress(content, 1)


@pytest.mark.parametrize("pack", [tar_of, lambda contents: gz(tar_of(contents)), zip_of], ids=["tar", "tar.gz", "zip"])
def test_an_archive_becomes_a_draft_that_becomes_ready(
    pack: Callable[[dict[str, bytes]], bytes], storage: Path
) -> None:
    bundle = draft(pack(CONTENTS), run={"command": ["./run.py"]})
    lines = list(bundle.files.values_list("path", "size", "mode"))
    assert lines == [("data/empty", 0, 420), ("data/model.bin", 3000, 420), ("run.py", 9, 493), ("same.py", 9, 420)]
    publish(bundle, actor="operator:alice")
    assert verify_uploads() == 3
    assert verify_bundles() == 1
    assert Bundle.objects.ready().get() == bundle
    assert list((storage / "uploads").iterdir()) == []


def test_a_tar_of_a_directory_is_accepted() -> None:
    archive = tar_of(CONTENTS, info("./", type=tarfile.DIRTYPE), prefix="./")
    assert draft(archive).file_count == 4


def test_the_description_is_read_and_not_part_of_the_bundle() -> None:
    toml = b'device_types = ["edge"]\n[run]\ncommand = ["python3", "run.py"]\n'
    bundle = draft(tar_of(CONTENTS | {"kernex.toml": toml}))
    assert (bundle.file_count, bundle.device_types) == (4, ["edge"])


def test_drafting_again_returns_the_same_bundle_and_stores_no_blob_twice(storage: Path) -> None:
    bundle = draft(tar_of(CONTENTS))
    verify_uploads()
    assert draft(zip_of(CONTENTS)) == bundle
    assert list((storage / "uploads").iterdir()) == []
    assert (Blob.objects.count(), Upload.objects.count()) == (3, 3)


OUTSIDE = {"path": "../outside"}
OTHER_TYPES = {
    "symbolic link": info("a", type=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": info("a", type=tarfile.LNKTYPE, linkname="run.py"),
    "device": info("a", type=tarfile.CHRTYPE),
    "block device": info("a", type=tarfile.BLKTYPE),
    "pipe": info("a", type=tarfile.FIFOTYPE),
}
ENCRYPTED = zip_of({"a": b"x"}).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
REFUSED: dict[str, tuple[str, bytes]] = {
    **{f"tar with a {why}": ("bad_member_type", tar_of(CONTENTS, entry)) for why, entry in OTHER_TYPES.items()},
    "zip with a link": ("bad_member_type", zip_of(CONTENTS, link("a"))),
    "encrypted zip": ("bad_member_type", ENCRYPTED),
    "absolute in a tar": ("bad_path", tar_of({"/etc/passwd": b""})),
    "outside in a tar": ("bad_path", tar_of({"a/../../b": b""})),
    "outside through a pax header": ("bad_path", tar_of({}, info("a", pax_headers=OUTSIDE), format=tarfile.PAX_FORMAT)),
    "outside in a zip": ("bad_path", zip_of({"../a": b""})),
    "backslash in a zip": ("bad_path", zip_of({"..\\a": b""})),
    "NUL in a zip": ("bad_path", zip_of({"aXb": b""}).replace(b"aXb", b"a\0b")),
    "not UTF-8 in a tar": ("bad_path", tar_of({"a\udcff": b""}, format=tarfile.GNU_FORMAT, errors="surrogateescape")),
    "twice in a tar": ("duplicate_path", tar_of({"a": b"", "./a": b""})),
    "twice in different case in a zip": ("duplicate_path", zip_of({"a": b"", "A": b""})),
    "no files": ("bad_files", tar_of({}, info("d", type=tarfile.DIRTYPE))),
    "not an archive": ("unknown_archive", b"hello"),
    "empty file": ("unknown_archive", b""),
    "gzip of something else": ("broken_archive", gz(b"hello" * 1000)),
    "truncated in a member": ("broken_archive", tar_of(CONTENTS)[:2500]),
    "truncated between members": ("broken_archive", tar_of(CONTENTS)[:1024]),
    "truncated gzip": ("broken_archive", gz(tar_of(CONTENTS))[:-200]),
    "gzip with a wrong checksum": ("broken_archive", gz(tar_of(CONTENTS))[:-8] + b"\0" * 8),
    "zip with a wrong checksum": (
        "broken_archive",
        zip_of({"a": b"hello"}).replace(struct.pack("<I", 0x3610A686), b"\0" * 4),
    ),
    "truncated zip": ("broken_archive", zip_of(CONTENTS)[:-30]),
    "bomb in a tar.gz": ("archive_too_large", gz(tar_of({"a": b"\0" * 70_000_000}))),
    "bomb in a zip": ("archive_too_large", zip_of({"a": b"\0" * 70_000_000})),
    "header bomb": ("broken_archive", gz(tar_of({}, info("x" * 20_000_000), format=tarfile.GNU_FORMAT))),
    "description with an unknown member": ("bad_description", tar_of({"a": b"", "kernex.json": b'{"name": "x"}'})),
    "description that is not JSON": ("bad_description", tar_of({"a": b"", "kernex.json": b"{"})),
    "description with a time": ("bad_description", tar_of({"a": b"", "kernex.toml": b"run = 2020-01-01"})),
    "two descriptions": ("bad_description", tar_of({"kernex.toml": b"device_types = []", "kernex.json": b"{}"})),
    "two descriptions, the first empty": ("bad_description", tar_of({"kernex.toml": b"", "kernex.json": b"{}"})),
    "dotted description": ("bad_description", tar_of({"a": b"", "kernex.toml": b"a" + b".a" * 20_000 + b" = 1"})),
    "large kernex.toml": ("bad_description", tar_of({"a": b"", "kernex.toml": b"#" * 70_000})),
    "huge description": ("bad_description", tar_of({"kernex.json": b" " * 300_000})),
}


@pytest.mark.parametrize(("code", "archive"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_archives_are_refused(code: str, archive: bytes, storage: Path) -> None:
    with pytest.raises(BadBundle) as refusal:
        draft(archive)
    assert refusal.value.code == code, refusal.value.message
    assert not (storage / "uploads").exists() or list((storage / "uploads").iterdir()) == []
    assert (Upload.objects.count(), Bundle.objects.count()) == (0, 0)


def test_nothing_is_kept_if_the_version_exists(storage: Path) -> None:
    draft(tar_of({"a": b"1"}))
    with pytest.raises(Conflict):
        draft(tar_of({"a": b"2"}))
    assert Upload.objects.count() == len(list((storage / "uploads").iterdir())) == 1


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_an_archive_leaves_the_space_that_open_uploads_reserved(
    pack: Callable[[dict[str, bytes]], bytes], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Upload.objects.create(sha256="a" * 64, size=600, part_size=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageFull):
        draft(pack({"first": b"1", "second": b"x" * 401}))
    assert list((storage / "uploads").iterdir()) == []
    assert (Upload.objects.count(), Bundle.objects.count()) == (1, 0)
    assert draft(pack({"first": b"1", "second": b"x" * 400})).file_count == 2


def test_directories_count_as_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ENTRIES", 5)
    with pytest.raises(BadBundle) as refusal:
        draft(tar_of({"a": b""}, *(info(f"d{number}", type=tarfile.DIRTYPE) for number in range(6))))
    assert refusal.value.code == "too_many_files"


def test_a_negative_size_is_refused() -> None:
    entry = bytearray(tar_of({"a": b"x"}))
    entry[124:136] = b"\xff" * 11 + b"\x00"  # -256 in base 256
    checksum = 256 + sum(entry[:148]) + sum(entry[156:512])
    entry[148:156] = f"{checksum:06o}\0 ".encode()
    with pytest.raises(BadBundle) as refusal:
        draft(bytes(entry))
    assert refusal.value.code == "broken_archive"
