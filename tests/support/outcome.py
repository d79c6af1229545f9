"""What fixtures may know of the test that they are torn down behind."""

from __future__ import annotations

import pytest

FAILED = pytest.StashKey[bool]()
"""In a test's stash: it has failed, and what it leaves behind is no further failure."""
