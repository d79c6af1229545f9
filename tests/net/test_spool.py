"""Temporary files for input that memory has no room for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.net import open_spool
from simple_fastcgi.net.spool import RingFile

if TYPE_CHECKING:
    from pathlib import Path


@given(st.integers(1, 50), st.lists(st.binary(min_size=1, max_size=30) | st.integers(1, 40), max_size=40))
def test_what_is_written_is_read_in_order(capacity: int, acts: list[bytes | int]) -> None:
    """An act is a write or the size of a read; a write that does not fit changes nothing."""
    ring, kept = RingFile(capacity), b""
    for act in acts:
        if isinstance(act, int):
            data = ring.read(act)
            assert kept.startswith(data)
            assert bool(data) is bool(kept)
            kept = kept[len(data) :]
        elif len(kept) + len(act) <= capacity:
            ring.write(act)
            kept += act
        else:
            with pytest.raises(OSError, match="passes its bound"):
                ring.write(act)
        assert os.fstat(ring._file.fileno()).st_size <= capacity
    ring.close()
    ring.close()


def test_it_stands_in_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ring = open_spool(1)
    ring.write(b"x")
    assert os.fstat(ring._file.fileno()).st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []
    ring.close()


def test_a_file_that_someone_cuts_short(tmp_path: Path) -> None:
    ring = RingFile(10)
    ring.write(b"lost")
    os.ftruncate(ring._file.fileno(), 0)
    with pytest.raises(OSError, match="cut short"):
        ring.read(4)
    ring.close()


def test_no_folder_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OSError, match="missing"):
        open_spool(1)
    assert "no temporary file for input beyond max_buffered_input" in caplog.text
