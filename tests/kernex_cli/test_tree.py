"""Which files of a directory become a bundle, and which are refused."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from kernex_cli.errors import BadManifest, FileChanged, LocalProblem
from kernex_cli.tree import Source, walk


def create_files(directory: Path, *paths: str) -> Path:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)
    return directory


def paths(directory: Path) -> list[str]:
    return [source.path for source in walk(directory)]


def only_source(directory: Path) -> Source:
    return walk(directory)[0]


def test_files_are_sorted_by_code_point(tmp_path: Path) -> None:
    assert paths(create_files(tmp_path, "b", "C", "a/b", "a-b", "a0", ".hidden")) == [
        ".hidden",
        "C",
        "a-b",
        "a/b",
        "a0",
        "b",
    ]


def test_only_the_owners_executable_bit_is_used(tmp_path: Path) -> None:
    create_files(tmp_path, "plain", "tool")
    (tmp_path / "plain").chmod(0o677)
    (tmp_path / "tool").chmod(0o700)
    assert [source.mode for source in walk(tmp_path)] == [0o644, 0o755]


def test_names_are_stored_in_normal_form_c(tmp_path: Path) -> None:
    create_files(tmp_path, unicodedata.normalize("NFD", "modèle"))
    assert paths(tmp_path) == ["modèle"]
    assert b"".join(only_source(tmp_path).read()) == unicodedata.normalize("NFD", "modèle").encode()


def test_names_with_the_same_normal_form_are_refused(tmp_path: Path) -> None:
    create_files(tmp_path, "modèle", unicodedata.normalize("NFD", "modèle"))
    with pytest.raises(BadManifest, match="duplicate_path"):
        walk(tmp_path)


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "\x1b[31m"])
def test_names_that_break_a_rule_are_refused(tmp_path: Path, name: str) -> None:
    create_files(tmp_path, name)
    with pytest.raises(BadManifest, match="bad_path") as refused:
        walk(tmp_path)
    assert name not in str(refused.value)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(BadManifest, match="not valid UTF-8"):
        walk(tmp_path)


@pytest.mark.parametrize("target", ["plain", "missing", "."])
def test_symbolic_links_are_refused(tmp_path: Path, target: str) -> None:
    create_files(tmp_path, "plain")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(LocalProblem, match="symbolic link"):
        walk(tmp_path)


def test_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LocalProblem, match="not a regular file"):
        walk(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(LocalProblem, match="not a regular file"):
            walk(tmp_path)


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadManifest, match="bad_files"):
        walk(tmp_path)


def test_only_a_directory_can_be_pushed(tmp_path: Path) -> None:
    create_files(tmp_path, "file")
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(LocalProblem, match="not a directory"):
            walk(path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernex_cli.tree.MAX_FILES", 2)
    create_files(tmp_path, "a", "b", "c")
    with pytest.raises(BadManifest, match="too_many_files"):
        walk(tmp_path)


def test_ignored_files_are_left_out(tmp_path: Path) -> None:
    create_files(
        tmp_path, "keep.py", "a.pyc", "deep/b.pyc", ".git/config", "deep/.git/x", "data/raw/1", "data/1", "raw/1"
    )
    create_files(tmp_path, "build")
    (tmp_path / ".kernexignore").write_text("# comment\n\n*.pyc\n.git/\n/data/raw/\nbuild/\n")
    assert paths(tmp_path) == ["build", "data/1", "keep.py", "raw/1"]


def test_ignored_directories_are_not_read(tmp_path: Path) -> None:
    create_files(tmp_path, "keep", "venv/x")
    (tmp_path / "venv" / "link").symlink_to("x")
    (tmp_path / ".kernexignore").write_text("venv\n")
    assert paths(tmp_path) == ["keep"]


def test_unsupported_ignore_patterns_are_refused(tmp_path: Path) -> None:
    create_files(tmp_path, "a")
    (tmp_path / ".kernexignore").write_text("!a\n")
    with pytest.raises(LocalProblem, match="`!`"):
        walk(tmp_path)


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "remove", "link"])
def test_a_changed_file_is_detected(tmp_path: Path, change: str) -> None:
    path = create_files(tmp_path, "file") / "file"
    source = only_source(tmp_path)
    if change == "grow":
        path.write_text("longer than before")
    elif change == "shrink":
        path.write_text("")
    elif change == "replace":
        (tmp_path / "new").write_text("file")
        (tmp_path / "new").replace(path)
    else:
        path.unlink()
    if change == "link":
        path.symlink_to("/etc/hostname")
    with pytest.raises((FileChanged, LocalProblem)):
        list(source.read())


def test_a_file_that_changes_while_it_is_read_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 1024 * 1024))
    chunks = only_source(tmp_path).read()
    next(chunks)
    with path.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(FileChanged):
        list(chunks)


def test_a_range_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert b"".join(only_source(tmp_path).read(3, 4)) == b"3456"
