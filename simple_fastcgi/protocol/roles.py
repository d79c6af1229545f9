"""The roles that an application declares (section 6)."""

from __future__ import annotations

from ..errors import ConfigurationError
from .constants import ROLE_STREAMS


def check_roles(handler: object) -> None:
    """Raise ConfigurationError unless `handler.roles` is a collection, not empty, of roles that FastCGI 1.0 knows."""
    from collections.abc import Collection

    roles = getattr(handler, "roles", None)
    if isinstance(roles, Collection) and roles and all(type(role) is int and role in ROLE_STREAMS for role in roles):
        return
    name = getattr(handler, "__qualname__", None) or repr(handler)
    raise ConfigurationError(
        f"{name}.roles = {roles!r}: give the roles that it serves, of 1 (Responder), 2 (Authorizer) and 3 (Filter), "
        "for example roles = (1,)"
    )
