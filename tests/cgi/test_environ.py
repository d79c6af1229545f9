"""What native handlers see of the parameters, and what logs tell of a request."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.environ import describe_request, native_environ

BYTES_AS_TEXT = st.text(st.characters(max_codepoint=0xFF))


def test_names_are_upper_case_and_values_utf8() -> None:
    params = {"path_info": "/b\xc3\xbccher", "HTTP_X": "plain"}
    assert native_environ(params, []) == {"PATH_INFO": "/bücher", "HTTP_X": "plain"}


def test_names_outside_ascii_are_kept() -> None:
    assert native_environ({"b\xc3\xbc": "1"}, []) == {"BÜ": "1"}


def test_names_that_differ_by_case_only_become_one() -> None:
    assert native_environ({"a": "1", "A": "2"}, []) == {"A": "2"}


def test_repeated_fields_are_joined() -> None:
    repeated = [("HTTP_X", "a"), ("HTTP_X", "b"), ("HTTP_COOKIE", "c=1"), ("HTTP_COOKIE", "d=2")]
    environ = native_environ({"HTTP_X": "b", "HTTP_COOKIE": "d=2"}, repeated)
    assert environ == {"HTTP_X": "a, b", "HTTP_COOKIE": "c=1; d=2"}


@given(st.dictionaries(BYTES_AS_TEXT, BYTES_AS_TEXT))
def test_nothing_is_lost_and_everything_fits_into_json(params: dict[str, str]) -> None:
    environ = native_environ(params, [])
    assert json.loads(json.dumps(environ)) == environ
    values = {value.encode("utf-8", "surrogateescape") for value in environ.values()}
    assert values <= {value.encode("latin-1") for value in params.values()}


def test_a_request_is_described_by_method_and_url() -> None:
    assert describe_request({"REQUEST_METHOD": "GET", "REQUEST_URI": "/a?b"}) == "GET /a?b"
    assert describe_request({"SCRIPT_NAME": "/app", "PATH_INFO": "/x"}) == "request /app/x"


@given(BYTES_AS_TEXT)
def test_a_description_is_one_line(uri: str) -> None:
    assert describe_request({"REQUEST_URI": uri}).isprintable()
