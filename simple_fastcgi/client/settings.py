"""What transports and the proxy are told, checked when it is told; of httpx this knows nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgi.params import Extra


def given_params(params: Extra | None) -> Extra | None:
    """`params`; ConfigurationError if they are none."""
    if objection := objection_to_params(params):
        raise ConfigurationError(f"params{objection}")
    return params


def objection_to_params(params: object) -> str:
    """What is wrong with parameters to be added, as it follows their name; nothing where they are right."""
    if params is None:
        return ""
    if not isinstance(params, Mapping):
        return f"={params!r}: give a dict of names and values"
    for key, value in params.items():
        if not isinstance(key, str) or not isinstance(value, str | bytes | None):
            return f": {key!r}: {value!r}: give a str for the name, and str, bytes or None for the value"
    return ""


def given_client(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """The address of the client; ConfigurationError if it is none."""
    match client:
        case None | (str(), int()):
            return client
    raise ConfigurationError(f'client={client!r}: give the address and the port, as ("127.0.0.1", 0), or None')
