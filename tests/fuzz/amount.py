"""How much is fuzzed: FUZZ_FACTOR times what the test suite does by itself."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("FUZZ_FACTOR", "1"))
"""From the environment; 1 by default."""
SECONDS = max(300.0, 300 * FACTOR)
"""The time limit of a test whose work grows by the factor."""
