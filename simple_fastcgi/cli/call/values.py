"""``--get-values``: what an application says of itself (FCGI_GET_VALUES, 4.1)."""

from __future__ import annotations

from contextlib import suppress

from ...errors import ProtocolError
from ...protocol.webserver import ALL_VALUES
from ...protocol.webserver_events import ValuesReceived
from . import status
from .command import deadline_of
from .options import VALUES_TIMEOUT
from .output import Output
from .status import CallError, reason_of, shown
from .transfer import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from ...net.address import BindAddress
    from ...protocol.webserver_events import WebServerEvent
    from .output import Messages
    from .transfer import Logs


def print_values(address: BindAddress, arguments: Namespace, messages: Messages, logs: Logs | None) -> int:
    """Ask for all values, and print those that are told; CallError if none are."""
    deadline = deadline_of(arguments, VALUES_TIMEOUT)
    link = Link(address, arguments.connect_timeout, deadline, logs)
    try:
        event = ask_values(link, deadline)
    except TimeoutError:
        raise CallError(
            status.TIMEOUT,
            f"{address} answers no FCGI_GET_VALUES in time: it does not know the question, is busy with others, "
            "or is no FastCGI server",
        ) from None
    except OSError as error:
        raise CallError(status.RECEIVE, f"{address}: the connection broke: {reason_of(error)}") from None
    except ProtocolError as error:
        raise CallError(status.PROTOCOL, f"{address}: {error}") from None
    finally:
        link.close()
    if event is None:
        raise CallError(
            status.EMPTY, f"{address} closed the connection instead of an answer: it does not know FCGI_GET_VALUES"
        )
    values = event.values if isinstance(event, ValuesReceived) else {}
    with Output("-") as output:
        output.write("".join(f"{name}={_told(value)}\n" for name, value in values.items()).encode())
    if not values:
        raise CallError(status.REFUSED, f"{address} does not tell any of {', '.join(ALL_VALUES)}")
    if untold := [name for name in ALL_VALUES if name not in values]:
        messages.hint(f"{address} does not tell {', '.join(untold)}")
    return status.OK


def ask_values(link: Link, deadline: float) -> WebServerEvent | None:
    """What answers to FCGI_GET_VALUES for all values; None if the connection ends instead.

    Raises TimeoutError at `deadline`, other OSErrors of the connection, and ProtocolError.
    """
    link.core.get_values()
    link.queue(link.core.data_to_send())
    # So little finds room at once; if the connection has ended, what comes tells why.
    with suppress(OSError):
        link.send()
    while True:
        link.wait_until(deadline)
        for data in link.pieces():
            if not data:
                return None
            for event in link.core.receive_data(data):
                return event


def _told(value: str) -> str:
    return shown(value.encode("latin-1"))
