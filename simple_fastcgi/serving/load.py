"""From ``MODULE:ATTR`` to the application, with one clear line for whatever is wrong with it."""

from __future__ import annotations

import importlib
import os
import sys
import types

from ..errors import ConfigurationError
from .garbage import SeldomCollected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_USUAL_NAMES = ("app", "application", "create_app", "make_app")
_NOT_WRITTEN_NOW = (os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(__file__)))
_IMPORT_SYSTEM = ("<frozen importlib", "<frozen zipimport", importlib.__file__)


class AppLoadError(ConfigurationError):
    """``MODULE:ATTR`` leads to no application. The message is one line, made for whoever typed it."""


class AppCrashError(Exception):
    """The application's own code raised while it was imported or made.

    ``__cause__``
        What it raised. Its traceback starts in the user's code; no frame of this package or of the import system
        comes before. ``SystemExit`` and ``KeyboardInterrupt`` are not wrapped.
    """

    def user_traceback(self) -> str:
        """The traceback as Python would have printed it, had the user run the module; it ends with a newline."""
        import traceback

        return "".join(traceback.format_exception(self.__cause__))


def load_app(spec: str, *, factory: bool = False, app_dir: str | None = "") -> object:
    """The application that ``spec`` names.

    ``spec`` (str)
        ``MODULE:ATTR``; both may be dotted, as in ``shop.web:api.app``.
    ``factory`` (default False)
        Whether ATTR is to be called, without arguments, to get the application.
    ``app_dir`` (str, default the current directory)
        A directory to import from before all others; None: ``sys.path`` stays as it is.

    Raises :class:`AppLoadError` if there is no such module or attribute, or if it cannot be called;
    :class:`AppCrashError` if the user's code raised.
    """
    with SeldomCollected():
        return _load_app(spec, app_dir, factory=factory)


def module_file(spec: str) -> str | None:
    """The file of the module that ``spec`` (``MODULE:ATTR``) names, once it is loaded; None if it has none."""
    return getattr(sys.modules.get(spec.partition(":")[0]), "__file__", None)


def _load_app(spec: str, app_dir: str | None, *, factory: bool) -> object:
    module_name, path = _parse(spec, app_dir)
    _make_importable(app_dir)
    module = _import(module_name, path)
    app = _attribute(module, path)
    if factory:
        app = _made(app, f"{module_name}:{path}")
    elif not callable(app):
        raise AppLoadError(
            f"{module_name}:{path} is {_kind(app)}, which cannot be called: give the name of a WSGI or ASGI application"
        )
    return app


def _parse(spec: str, app_dir: str | None) -> tuple[str, str]:
    module_name, colon, path = spec.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        raise AppLoadError(f"{spec!r} is a file: {_from_file(module_name, path)}")
    if path.endswith("()"):
        raise AppLoadError(f"{spec!r}: write it without parentheses and add --factory: {spec[:-2]!r} --factory")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise AppLoadError(f'{spec!r} names no module: write MODULE:ATTR, for example "app:app"')
    if not colon:
        _make_importable(app_dir)
        raise AppLoadError(f"{spec!r} names no attribute: write {_completed(spec)}")
    if not all(part.isidentifier() for part in path.split(".")):
        raise AppLoadError(f'{spec!r} names no attribute: write MODULE:ATTR, for example "{module_name}:app"')
    return module_name, path


def _from_file(file: str, path: str) -> str:
    folder, parts = "", os.path.normpath(file.removesuffix(".py")).split("/")
    # What cannot stand in a module's name has to be where the command is run.
    while len(parts) > 1 and (file.startswith("/") or not all(part.isidentifier() for part in parts)):
        folder = f"{folder}{parts.pop(0)}/"
    where = f" in the directory {folder.rstrip('/') or '/'!r}" if folder else ""
    return f"write {'.'.join(parts) + ':' + (path or 'app')!r}{where}"


def _completed(spec: str) -> str:
    """The likeliest ``MODULE:ATTR`` for a spec without a colon."""
    try:
        module = _import(spec, "app")
    except AppLoadError:
        return repr(":".join(spec.rsplit(".", 1)) if "." in spec else f"{spec}:app")
    # Its own mistakes are told when it is loaded in earnest; here only a hint is at stake.
    except (AppCrashError, SystemExit):
        return repr(f"{spec}:app")
    name = next((name for name in _USUAL_NAMES if hasattr(module, name)), "app")
    return repr(f"{spec}:{name}") + (" --factory" if name.endswith("_app") else "")


def _make_importable(app_dir: str | None) -> None:
    if app_dir is None:
        return
    try:
        folder = os.path.abspath(app_dir)
    except OSError as error:
        raise AppLoadError(
            f"the current directory cannot be told ({error.strerror}): change to one that exists"
        ) from error
    if not os.path.isdir(folder):
        raise AppLoadError(f"app_dir={app_dir!r} is no directory: give one that exists")
    if folder not in sys.path and not (app_dir == "" and "" in sys.path):
        sys.path.insert(0, folder)
    # A module written a moment ago must be found too, but not in Python's own folders and this package's, from which
    # much is still to be imported. (importlib.invalidate_caches() imports importlib.metadata and half of the standard
    # library with it, on Python 3.13.)
    for path in list(sys.path_importer_cache):
        if not path.startswith(_NOT_WRITTEN_NOW):
            del sys.path_importer_cache[path]


def _import(module_name: str, path: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        trace = _user_part(error.__traceback__)
        if trace is None and isinstance(error, ModuleNotFoundError):
            raise AppLoadError(_no_module(module_name, path, error.name or module_name)) from None
        raise _crash(f"{module_name} failed on import", error) from error


def _no_module(module_name: str, path: str, missing: str) -> str:
    parent, _, last = module_name.rpartition(".")
    found = sys.modules.get(parent)
    if found is not None and hasattr(found, last):
        return f"no module named {missing!r}, but {parent!r} has {last!r}: write '{parent}:{last}.{path}'"
    if found is not None:
        return f"no module named {missing!r}, though there is {parent!r}: check the name"
    return f"no module named {missing!r}: check the name, or run this in the directory that holds it"


def _attribute(module: types.ModuleType, path: str) -> object:
    found: object = module
    name = module.__name__
    for part in path.split("."):
        try:
            inner: object = getattr(found, part)
        except AttributeError as error:
            if _user_part(error.__traceback__) is None or _is_own(error, found, part):
                raise AppLoadError(_no_attribute(found, name, part)) from None
            raise _crash(f"reading {name}'s attribute {part} failed", error) from error
        except Exception as error:
            raise _crash(f"reading {name}'s attribute {part} failed", error) from error
        name = f"{name}{'.' if ':' in name else ':'}{part}"
        found = inner
    return found


def _is_own(error: AttributeError, owner: object, name: str) -> bool:
    """Whether a ``__getattr__`` of the user says no, as it may, rather than stumbles over something else."""
    return error.obj in (None, owner) and error.name in (None, name)


def _no_attribute(owner: object, owner_name: str, name: str) -> str:
    import difflib
    from importlib.util import find_spec

    kind = "module " if isinstance(owner, types.ModuleType) else ""
    told = f"{kind}{owner_name} has no attribute {name!r}"
    if isinstance(owner, types.ModuleType) and hasattr(owner, "__path__"):
        module_name = f"{owner.__name__}.{name}"
        if find_spec(module_name) is not None:
            return f"{told}, but a module of that name: write '{module_name}:app'"
    public = [known for known in dir(owner) if not known.startswith("_")]
    near = difflib.get_close_matches(name, public, n=3) or [usual for usual in _USUAL_NAMES if usual in public]
    if near:
        return f"{told}: is {' or '.join(map(repr, near))} meant?"
    place = getattr(owner, "__file__", None)
    return f"{told}: check the name" + (f" in {place}" if place else "")


def _made(factory: object, name: str) -> object:
    if not callable(factory):
        raise AppLoadError(
            f"{name} is {_kind(factory)}, which cannot be called: leave out --factory, or name a function"
        )
    try:
        app = factory()
    except Exception as error:
        if isinstance(error, TypeError) and _user_part(error.__traceback__) is None:
            raise AppLoadError(
                f"{name} cannot be called without arguments ({error}): "
                "a factory takes none; leave out --factory if it is the application"
            ) from None
        raise _crash(f"{name}() failed", error) from error
    if isinstance(app, types.CoroutineType):
        app.close()
        raise AppLoadError(
            f"{name} is a coroutine function: leave out --factory if it is the application, or drop async"
        )
    if not callable(app):
        raise AppLoadError(f"{name}() returned {_kind(app)}, which cannot be called: return a WSGI or ASGI application")
    return app


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    return f"of type {type(value).__qualname__}"


def _crash(what: str, error: Exception) -> AppCrashError:
    error.__traceback__ = _user_part(error.__traceback__)
    lines = str(error).splitlines()
    return AppCrashError(f"{what}: {type(error).__name__}" + (f": {lines[0]}" if lines else ""))


def _user_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the leading frames of this module and of the import system."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((__file__, *_IMPORT_SYSTEM)):
        trace = trace.tb_next
    return trace
