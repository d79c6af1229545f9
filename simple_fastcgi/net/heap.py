"""Memory for bodies, which come and go in blocks of some hundred KB."""

from __future__ import annotations

_BLOCK = 1 << 20


def keep_freed_blocks() -> None:
    """Let the C library keep up to 2 MiB that were freed, rather than return and ask for them with each block.

    glibc takes the largest block that was ever freed for the size of those that come and go: so it learns that size
    before there is any. None of this block's memory is ever used.
    """
    bytes(_BLOCK)
