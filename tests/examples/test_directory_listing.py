"""The directory listing by itself: what it shows, and what it never does."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

FILE = Path(__file__).parents[2] / "examples" / "native" / "directory_listing.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("directory_listing_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a tree with links that stay and links that leave, beside a folder whose name begins with its own."""
    monkeypatch.delenv("FCGI_LISTING_ROOT", raising=False)
    root = tmp_path.resolve() / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "file").write_text("12345")
    (root / "inside").symlink_to("sub")
    (root / "leaves").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root.parent / "root-of-another").mkdir()
    return root


def locate(module: ModuleType, root: Path, path: str) -> Path:
    return Path(module.locate({"DOCUMENT_ROOT": str(root), "PATH_INFO": path}))


def entries(module: ModuleType, path: Path) -> list[dict[str, Any]]:
    folder = module.Folder(str(path))
    try:
        text = "".join(iter(folder.read, ""))
    finally:
        folder.close()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("path", "found"),
    (("", "."), ("/", "."), ("/sub/", "sub"), ("/sub/../sub/deep", "sub/deep"), ("/inside", "sub"), ("//sub", "sub")),
)
def test_folders_below_the_root_are_found(module: ModuleType, root: Path, path: str, found: str) -> None:
    assert locate(module, root, path) == root / found


@pytest.mark.parametrize(
    "path",
    ("/..", "/../", "/../root-of-another", "/sub/../../..", "/leaves", "/leaves/root-of-another", "/leaves/x/../.."),
)
def test_nothing_outside_of_the_root_is_found(module: ModuleType, root: Path, path: str) -> None:
    with pytest.raises(module.Refused) as refused:
        locate(module, root, path)
    assert refused.value.code == 403


def test_a_root_may_be_the_whole_file_system(module: ModuleType, root: Path) -> None:
    assert locate(module, Path("/"), str(root)) == root


def test_a_root_that_is_a_link_is_resolved_itself(module: ModuleType, root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert locate(module, link, "/sub") == root / "sub"


@pytest.mark.parametrize("path", ("/nothing", "/file", "/file/", "/loop", "/a\0b", "/%2e%2e", "/" + "x" * 300))
def test_what_is_no_folder_is_not_there(module: ModuleType, root: Path, path: str) -> None:
    with pytest.raises(module.Refused) as refused:
        module.open_folder({"DOCUMENT_ROOT": str(root), "PATH_INFO": path})
    assert refused.value.code == 404


def test_without_a_root_nothing_is_shown(module: ModuleType, root: Path) -> None:
    with pytest.raises(module.Refused) as refused:
        module.open_folder({"DOCUMENT_ROOT": "", "PATH_INFO": str(root)})
    assert refused.value.code == 500


def test_the_environment_variable_wins(module: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_LISTING_ROOT", str(root / "sub"))
    assert locate(module, root, "/deep") == root / "sub" / "deep"


@pytest.mark.parametrize(
    ("environ", "path"),
    (
        ({"SCRIPT_NAME": "/sub"}, "/sub"),
        ({"SCRIPT_NAME": "/mount", "PATH_INFO": "/sub"}, "/sub"),
        ({"SCRIPT_NAME": "/mount", "PATH_INFO": ""}, ""),
        ({}, ""),
    ),
)
def test_the_path_is_found_as_web_servers_tell_it(module: ModuleType, environ: dict[str, str], path: str) -> None:
    assert module.requested_path(environ) == path


def test_entries_are_told_and_links_not_followed(module: ModuleType, root: Path) -> None:
    os.mkfifo(root / "pipe")
    found = {entry["name"]: entry for entry in entries(module, root)}
    kinds = {name: entry["type"] for name, entry in found.items()}
    links = {"inside": "link", "leaves": "link", "loop": "link"}
    assert kinds == {"sub": "folder", "file": "file", "pipe": "other", **links}
    assert found["file"]["size"] == 5


def test_a_name_that_is_not_utf8_survives(module: ModuleType, root: Path) -> None:
    try:
        os.mkdir(os.fsencode(root) + b"/bad\xff")
    except OSError:  # a file system that wants UTF-8
        pytest.skip("such names cannot be made here")
    folder = locate(module, root, b"/bad\xff".decode("utf-8", "surrogateescape"))
    (folder / "x").touch()
    assert [entry["name"] for entry in entries(module, folder)] == ["x"]
    assert b"bad\xff" in {os.fsencode(entry["name"]) for entry in entries(module, root)}


def test_a_large_folder_comes_in_batches(module: ModuleType, tmp_path: Path) -> None:
    for number in range(module.BATCH_SIZE + 1):
        (tmp_path / str(number)).touch()
    folder = module.Folder(str(tmp_path))
    try:
        sizes = [len(folder.read().splitlines()) for _ in range(3)]
    finally:
        folder.close()
    assert sizes == [module.BATCH_SIZE, 1, 0]
