"""MODULE:ATTR to the application, for servers that have no command line; the current directory is importable."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def load_app(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
