"""Finding the application, and one clear line for every way in which that can go wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.serving.load import AppCrashError, AppLoadError, load_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a user's modules; their names begin with "my"."""
    files = {
        "myapp.py": "def app(environ, start_response): ...\nversion = '1'\nnothing = None\nimport sys as mysys\n",
        "myshop/__init__.py": "",
        "myshop/web.py": "class Api:\n    @staticmethod\n    def app(environ, start_response): ...\napi = Api()\n",
        "myfactory.py": """\
def create_app(): return lambda environ, start_response: []
def needs(config): ...
def fails(): return {}['database']
def misuses(): return create_app(1)
def returns_nothing(): ...
async def later(): ...
""",
        "mybroken.py": "import myapp\nimport no_such_dependency\n",
        "mysyntax.py": "def app(:\n",
        "myvalue.py": "def start():\n    raise ValueError('two\\nlines')\nstart()\n",
        "mysilent.py": "raise RuntimeError\n",
        "myexit.py": "raise SystemExit(7)\n",
        "mylazy.py": """\
def __getattr__(name):
    if name == 'app': return lambda environ, start_response: []
    if name == 'broken': return None.attribute
    if name == 'failing': raise LookupError(name)
    raise AttributeError(name)
""",
        "myempty.py": "",
        "mycallable.py": "application = create_app = print\n",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("spec", ("myapp:app", "myshop.web:api.app", "myshop.web:Api.app", "mylazy:app"))
def test_application(spec: str) -> None:
    app: Any = load_app(spec)
    assert callable(app)


@pytest.mark.usefixtures("project")
def test_factory() -> None:
    app: Any = load_app("myfactory:create_app", factory=True)
    assert app({}, None) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    (
        # the form
        ("", "'' names no module: write MODULE:ATTR, for example \"app:app\""),
        (":app", "':app' names no module: write MODULE:ATTR, for example \"app:app\""),
        (".myapp:app", "'.myapp:app' names no module: write MODULE:ATTR, for example \"app:app\""),
        ("myapp:", "'myapp:' names no attribute: write MODULE:ATTR, for example \"myapp:app\""),
        ("myapp:app:app", "'myapp:app:app' names no attribute: write MODULE:ATTR, for example \"myapp:app\""),
        ("myapp:a b", "'myapp:a b' names no attribute: write MODULE:ATTR, for example \"myapp:app\""),
        ("myapp", "'myapp' names no attribute: write 'myapp:app'"),
        ("mycallable", "'mycallable' names no attribute: write 'mycallable:application'"),
        ("myfactory", "'myfactory' names no attribute: write 'myfactory:create_app' --factory"),
        ("myempty", "'myempty' names no attribute: write 'myempty:app'"),
        ("mybroken", "'mybroken' names no attribute: write 'mybroken:app'"),
        ("myexit", "'myexit' names no attribute: write 'myexit:app'"),
        ("mynot", "'mynot' names no attribute: write 'mynot:app'"),
        ("myapp.app", "'myapp.app' names no attribute: write 'myapp:app'"),
        ("myshop.web", "'myshop.web' names no attribute: write 'myshop.web:app'"),
        ("myshop.web.api", "'myshop.web.api' names no attribute: write 'myshop.web:api'"),
        ("myfactory:create_app()", "'myfactory:create_app()': write it without parentheses and add --factory:"),
        # files
        ("myapp.py", "'myapp.py' is a file: write 'myapp:app'"),
        ("./myapp.py", "'./myapp.py' is a file: write 'myapp:app'"),
        ("myapp.py:api", "'myapp.py:api' is a file: write 'myapp:api'"),
        ("path/to/app.py", "'path/to/app.py' is a file: write 'path.to.app:app'"),
        ("path/to/app:app", "'path/to/app:app' is a file: write 'path.to.app:app'"),
        ("/srv/shop/app.py", "'/srv/shop/app.py' is a file: write 'app:app' in the directory '/srv/shop'"),
        ("my-shop/web/app.py", "'my-shop/web/app.py' is a file: write 'web.app:app' in the directory 'my-shop'"),
        ("/app.py", "'/app.py' is a file: write 'app:app' in the directory '/'"),
        ("../app.py", "'../app.py' is a file: write 'app:app' in the directory '..'"),
        # the module
        ("mynot:app", "no module named 'mynot': check the name, or run this in the directory that holds it"),
        ("mynot.web:app", "no module named 'mynot': check the name, or run this in the directory that holds it"),
        ("myshop.wbe:app", "no module named 'myshop.wbe', though there is 'myshop': check the name"),
        (
            "myshop.web.api:app",
            "no module named 'myshop.web.api', but 'myshop.web' has 'api': write 'myshop.web:api.app'",
        ),
        # the attribute
        ("myapp:ap", "module myapp has no attribute 'ap': is 'app' meant?"),
        ("myapp:handler", "module myapp has no attribute 'handler': is 'app' meant?"),
        ("myempty:app", "module myempty has no attribute 'app': check the name in "),
        ("mylazy:other", "module mylazy has no attribute 'other': check the name in "),
        ("myshop.web:api.apq", "myshop.web:api has no attribute 'apq': is 'app' meant?"),
        ("myshop.web:api.other", "myshop.web:api has no attribute 'other': is 'app' meant?"),
        ("myapp:version.x", "myapp:version has no attribute 'x': check the name"),
        ("myshop:web.api", "module myshop has no attribute 'web', but a module of that name: write 'myshop.web:app'"),
        ("myshop:other", "module myshop has no attribute 'other': check the name in "),
        # what is there
        ("myapp:version", "myapp:version is of type str, which cannot be called: give the name of a WSGI or ASGI"),
        ("myapp:nothing", "myapp:nothing is None, which cannot be called: give the name of a WSGI or ASGI"),
        ("myapp:mysys", "myapp:mysys is the module sys, which cannot be called: give the name of a WSGI or ASGI"),
    ),
)
@pytest.mark.usefixtures("project")
def test_error_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(AppLoadError) as caught:
        load_app(spec)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("attribute", "message"),
    (
        ("needs", "myfactory:needs cannot be called without arguments (needs() missing 1"),
        ("returns_nothing", "myfactory:returns_nothing() returned None, which cannot be called: return a WSGI or ASGI"),
        ("later", "myfactory:later is a coroutine function: leave out --factory"),
        ("__name__", "myfactory:__name__ is of type str, which cannot be called: leave out --factory"),
    ),
)
def test_factory_that_is_none(attribute: str, message: str) -> None:
    with pytest.raises(AppLoadError) as caught:
        load_app(f"myfactory:{attribute}", factory=True)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "message", "first_line", "last_line"),
    (
        (
            "mybroken:app",
            "mybroken failed on import: ModuleNotFoundError: No module named 'no_such_dependency'",
            '/mybroken.py", line 2, in <module>',
            "ModuleNotFoundError: No module named 'no_such_dependency'",
        ),
        (
            "mysyntax:app",
            "mysyntax failed on import: SyntaxError: ",
            '/mysyntax.py", line 1',
            "SyntaxError: ",
        ),
        ("myvalue:app", "myvalue failed on import: ValueError: two", '/myvalue.py", line 3, in <module>', "lines"),
        (
            "mysilent:app",
            "mysilent failed on import: RuntimeError",
            '/mysilent.py", line 1, in <module>',
            "RuntimeError",
        ),
        (
            "mylazy:broken",
            "reading mylazy's attribute broken failed: AttributeError: 'NoneType' object has no attribute 'attribute'",
            '/mylazy.py", line 3, in __getattr__',
            "AttributeError: ",
        ),
        (
            "mylazy:failing",
            "reading mylazy's attribute failing failed: LookupError: failing",
            '/mylazy.py", line 4, in __getattr__',
            "LookupError: failing",
        ),
        (
            "myfactory:fails",
            "myfactory:fails() failed: KeyError: 'database'",
            '/myfactory.py", line 3, in fails',
            "KeyError: 'database'",
        ),
        (
            "myfactory:misuses",
            "myfactory:misuses() failed: TypeError: create_app() takes 0",
            '/myfactory.py", line 4, in misuses',
            "TypeError: create_app() takes 0",
        ),
    ),
)
def test_the_users_own_traceback_is_shown(
    project: Path, spec: str, message: str, first_line: str, last_line: str
) -> None:
    with pytest.raises(AppCrashError) as caught:
        load_app(spec, factory=spec.startswith("myfactory"))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
    text = caught.value.user_traceback()
    places = [line for line in text.splitlines() if line.startswith("  File ")]
    assert f"{project}{first_line}" in places[0]
    assert all(str(project) in place for place in places)
    assert text.splitlines()[-1].startswith(last_line)
    assert text.endswith("\n")


@pytest.mark.usefixtures("project")
def test_a_module_that_exits_may() -> None:
    with pytest.raises(SystemExit) as caught:
        load_app("myexit:app")
    assert caught.value.code == 7


def test_current_directory_is_importable_first(project: Path) -> None:
    load_app("myapp:app")
    assert sys.path[0] == str(project)
    load_app("myapp:app")
    assert sys.path.count(str(project)) == 1


def test_current_directory_that_is_importable_already(project: Path) -> None:
    sys.path.append("")
    load_app("myapp:app")
    assert str(project) not in sys.path


def test_another_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    with pytest.raises(AppLoadError):
        load_app("myapp:app", app_dir=None)
    load_app("myapp:app", app_dir=project.name)
    assert sys.path[0] == str(project)
    with pytest.raises(AppLoadError, match="app_dir='no-such' is no directory"):
        load_app("myapp:app", app_dir="no-such")


def test_current_directory_that_is_gone(project: Path) -> None:
    (project / "gone").mkdir()
    os.chdir(project / "gone")
    (project / "gone").rmdir()
    with pytest.raises(AppLoadError, match="the current directory cannot be told"):
        load_app("myapp:app")


@given(st.text() | st.text(st.sampled_from("ab.:/()-_ é"), max_size=12))
def test_any_spec_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(AppLoadError) as caught:
        load_app(f"no_such_module_{spec}", app_dir=None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("ends", ("", "raise ValueError"))
def test_garbage_is_looked_for_seldom_meanwhile(project: Path, ends: str) -> None:
    usual = gc.get_threshold()
    (project / "mygarbage.py").write_text(f"import gc\nmeanwhile = gc.get_threshold()\napp = print\n{ends}\n")
    with contextlib.suppress(AppCrashError):
        load_app("mygarbage:app")
        assert sys.modules["mygarbage"].meanwhile[0] > usual[0]
    assert gc.get_threshold() == usual


@pytest.mark.parametrize("threshold", (0, 100, 50_000, 1_000_000))
def test_what_the_program_says_of_garbage_stands(project: Path, threshold: int) -> None:
    usual = gc.get_threshold()
    (project / "mygarbage.py").write_text(f"import gc\ngc.set_threshold({threshold})\napp = print\n")
    try:
        load_app("mygarbage:app")
        assert gc.get_threshold()[0] == threshold
        # And so it does when it was said before.
        (project / "mysecond.py").write_text("import gc\nmeanwhile = gc.get_threshold()\napp = print\n")
        load_app("mysecond:app")
        meanwhile = sys.modules["mysecond"].meanwhile[0]
        assert meanwhile == threshold if threshold in (0, 1_000_000) else meanwhile > threshold
        assert gc.get_threshold()[0] == threshold
    finally:
        gc.set_threshold(*usual)
