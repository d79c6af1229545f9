"""`JsonFormatter`: each record of the log as one line of JSON, for whatever collects logs."""

from __future__ import annotations

from json import dumps
from logging import Formatter

from .log import iso_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import LogRecord


class JsonFormatter(Formatter):
    """An object a line, in ASCII: ``time``, ``level``, ``logger``, ``pid``, ``message``, and what else is known.

    That is ``exception`` (a traceback), ``stack``, and, where a record of this package is about a request, what
    ``record.fcgi`` says of it: ``event``, and the fields of an access log in JSON. For ``logging.config``:
    ``{"()": "simple_fastcgi.json_log.JsonFormatter"}``.
    """

    def format(self, record: LogRecord) -> str:
        """The line, without its end; a value that JSON has no word for stands there as text."""
        told: dict[str, object] = {
            "time": iso_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fcgi", None)
        if isinstance(fields, dict):
            told |= {name: value for name, value in fields.items() if name not in told}
            # The message of a slow request ends with it.
            told["message"] = str(told["message"]).removesuffix(f"\n{fields.get('stack')}")
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            told["exception"] = record.exc_text
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        return dumps(told, separators=(",", ":"), default=str)
