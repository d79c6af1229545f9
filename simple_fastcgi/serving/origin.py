"""Where an application comes from that was given as an object: what it is called, and which file it is written in."""

from __future__ import annotations

import os
import sys

_OURS = __name__.partition(".")[0]


def name_of(app: object) -> str:
    """What to call `app`: a function's module, or else whose the object is.

    The class of a framework's object tells nothing about that; Flask's tells itself, others come from the script.
    """
    return module_of(app) or _name_of_script() or type(app).__module__


def file_of(app: object) -> str | None:
    """The file of the module that `app` comes from; None if that is not known."""
    module = module_of(app)
    if module is None or module.partition(".")[0] == _OURS:
        return None
    return getattr(sys.modules.get(module), "__file__", None)


def module_of(app: object) -> str | None:
    """The name of the module that `app` comes from, as far as that can be told."""
    if hasattr(app, "__qualname__"):
        # A function, or a class; the module of an object's class would be the framework's.
        return getattr(app, "__module__", None)
    told = getattr(app, "import_name", None)
    return told if isinstance(told, str) and told != "__main__" else None


def script() -> str | None:
    """The script that this process runs, if it is one."""
    return getattr(sys.modules.get("__main__"), "__file__", None)


def _name_of_script() -> str:
    folder, file = os.path.split(script() or "")
    name = os.path.splitext(file)[0]
    return os.path.basename(folder) if name == "__main__" else name
