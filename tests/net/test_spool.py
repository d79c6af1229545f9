"""Temporary files for input that memory has no room for."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.net.spool import BLOCK, MAX_FILES, ConnectionSpool

if TYPE_CHECKING:
    from pathlib import Path

    from simple_fastcgi.net.spool import SpooledStream

sizes = st.integers(1, 3 * BLOCK) | st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1])


def descriptor(spool: ConnectionSpool) -> int:
    assert spool._file is not None
    return spool._file.descriptor


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["write", "read", "close"]), sizes), max_size=40))
def test_what_is_written_is_read_in_order(acts: list[tuple[int, str, int]]) -> None:
    """By whichever of the streams that share a file; and what was read is room for more."""
    spool = ConnectionSpool()
    streams: dict[int, tuple[SpooledStream, bytearray]] = {}
    most = written = 0
    for number, act, size in acts:
        if number not in streams:
            streams[number] = (spool(), bytearray())
        stream, kept = streams[number]
        if act == "write":
            data = os.urandom(8) * (size // 8 + 1)
            stream.write(data)
            kept += data
            written += len(data)
        elif act == "read":
            data = stream.read(size)
            assert kept.startswith(data)
            assert bool(data) is bool(kept)
            del kept[: len(data)]
        else:
            stream.close()
            stream.close()
            assert stream.read(size) == b""
            del streams[number]
        most = max(most, sum(len(kept) for _, kept in streams.values()))
        if streams:
            # Each stream's first and last block are in use in part.
            assert os.fstat(descriptor(spool)).st_size <= min(written, most) + 2 * 3 * BLOCK
    for stream, _ in streams.values():
        stream.close()
    assert spool._file is None or spool._file.descriptor < 0


def test_it_stands_in_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = ConnectionSpool()
    stream = spool()
    stream.write(b"x")
    assert os.fstat(descriptor(spool)).st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []
    stream.close()


def test_a_stream_that_nobody_has_any_more_is_closed() -> None:
    spool = ConnectionSpool()
    one, other = spool(), spool()
    one.write(b"x")
    number = descriptor(spool)
    del one
    os.fstat(number)
    del other
    assert spool._file is not None
    assert spool._file.descriptor < 0
    # And there can be another file.
    again = spool()
    again.write(b"y")
    assert again.read(9) == b"y"


def test_the_garbage_collector_closes_a_stream_while_another_one_is_made() -> None:
    """It may run anywhere, in the midst of this module as well, and finds streams of requests that failed."""
    spool = ConnectionSpool()
    kept = spool()
    threshold = gc.get_threshold()
    try:
        for distance in range(1, 40):
            gc.disable()
            gc.collect()
            cycle: list[object] = [spool()]
            cycle.append(cycle)
            del cycle
            gc.set_threshold(gc.get_count()[0] + distance, *threshold[1:])
            gc.enable()
            stream = spool()
            stream.write(b"x")
            stream.close()
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    gc.collect()
    file = spool._file
    assert file is not None
    assert file._streams == 1
    kept.close()


def test_a_file_that_someone_cuts_short() -> None:
    spool = ConnectionSpool()
    stream = spool()
    stream.write(b"lost")
    os.ftruncate(descriptor(spool), 0)
    with pytest.raises(OSError, match="cut short"):
        stream.read(4)


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what was not written whole is there, and what was written before still is."""
    spool = ConnectionSpool()
    stream = spool()
    stream.write(b"kept")
    file = spool._file
    assert file is not None
    with open("/dev/full", "r+b", buffering=0) as full:
        kept, file.descriptor = file.descriptor, full.fileno()
        for size in (1, 2 * BLOCK):
            with pytest.raises(OSError, match="No space left"):
                stream.write(bytes(size))
        file.descriptor = kept
    stream.write(b" and more")
    assert stream.read(99) == b"kept and more"


def test_no_folder_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    spool = ConnectionSpool()
    for _ in range(3):
        with pytest.raises(OSError, match="missing"):
            spool()
    assert caplog.text.count("no temporary file for input beyond max_buffered_input") == 1


def test_a_process_has_a_bound_of_files() -> None:
    # Other tests of this process may have left some to the garbage collector.
    gc.collect()
    streams = [ConnectionSpool()() for _ in range(MAX_FILES)]
    with pytest.raises(OSError, match="256 such files"):
        ConnectionSpool()()
    streams.pop().close()
    ConnectionSpool()().close()


def test_garbage_is_closed_without_a_word() -> None:
    """In whatever order the garbage collector takes it: a file object would warn of itself."""
    spool = ConnectionSpool()
    stream = spool()
    stream.write(b"x")
    number = descriptor(spool)
    cycle: list[object] = [spool, stream]
    cycle.append(cycle)
    del cycle, spool, stream
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
