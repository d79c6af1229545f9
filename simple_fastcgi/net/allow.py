"""Who may connect over TCP: FastCGI has no authentication, so the peer's address is all there is."""

from __future__ import annotations

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from typing import Any

    Entry = str | IPv4Address | IPv6Address | IPv4Network | IPv6Network
    AllowFrom = Entry | Iterable[Entry] | Container[str]

WEB_SERVER_ADDRS = "FCGI_WEB_SERVER_ADDRS"
"""The environment variable in which whoever starts an application names the web servers' addresses (2.3, 3.2)."""


class AllowList:
    """Addresses and networks whose connections are served; all others are closed.

    ``entries`` (str, an address or network of the module ipaddress, or an iterable of these)
        IPv4 or IPv6 addresses or networks (``"10.0.0.7"``, ``"10.0.0.0/8"``, ``"2001:db8::/32"``); one string
        may hold several, separated by commas.
    ``setting`` (str, default ``"allow_from"``)
        Where the entries come from, for error messages.

    An IPv4 address that a dual-stack socket shows as ``::ffff:10.0.0.7`` counts as ``10.0.0.7``. The zone of a
    link-local address (``"fe80::1%eth0"``) is passed over, in entries and in peers.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for an entry that is neither, for a network with host
    bits set, and for an empty list.
    """

    __slots__ = ("_networks",)

    def __init__(self, entries: Iterable[Entry] | Entry, *, setting: str = "allow_from") -> None:
        listed: Any = [entries] if _is_one(entries) else entries
        self._networks = tuple(
            _network(part.strip(), setting) for entry in listed for part in str(entry).split(",") if part.strip()
        )
        if not self._networks:
            raise ConfigurationError(f"{setting}: an empty list would let nobody in; give addresses or networks")

    @classmethod
    def from_environment(cls, value: str | None) -> AllowList | None:
        """The list in ``value``, the content of FCGI_WEB_SERVER_ADDRS (specification, 3.2); None if unset or blank.

        Raises :class:`~simple_fastcgi.errors.ConfigurationError` if it cannot be read: serving everybody instead
        would be the opposite of what the web server asked for.
        """
        if value is None or not value.strip():
            return None
        return cls(value, setting=WEB_SERVER_ADDRS)

    def __contains__(self, peer: object) -> bool:
        """Whether ``peer``, an address (str) or what ``accept()`` and ``getpeername()`` give, may connect.

        A peer of a unix socket has no address and is never in the list, as the specification (3.2) demands.
        """
        host = peer[0] if isinstance(peer, tuple) and peer else peer
        if not isinstance(host, str):
            return False
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)

    def __str__(self) -> str:
        return ", ".join(
            str(network.network_address if network.prefixlen == network.max_prefixlen else network)
            for network in self._networks
        )

    def __repr__(self) -> str:
        return f"<AllowList {self}>"


def web_servers() -> AllowList | None:
    """The list in FCGI_WEB_SERVER_ADDRS of this process's environment; see :meth:`AllowList.from_environment`."""
    import os

    return AllowList.from_environment(os.environ.get(WEB_SERVER_ADDRS))


def as_allow_list(given: AllowFrom | None) -> Container[str] | None:
    """What the setting ``allow_from`` means: an :class:`AllowList` of what was listed; other containers as they are.

    A str, an address or network of the module ipaddress, or an iterable of these, is a list; a container that is not
    iterable is asked for each peer's address (str). None lets everybody in. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for anything else.
    """
    if given is None or isinstance(given, AllowList):
        return given
    from collections.abc import Container, Iterable

    if _is_one(given) or isinstance(given, Iterable):
        return AllowList(given)  # type: ignore[arg-type]
    if isinstance(given, Container):
        return given
    raise ConfigurationError(f"allow_from={given!r}: give addresses or networks, in a str or a list of them")


def _is_one(given: object) -> bool:
    """Whether it is no list; to iterate over a network of the module ipaddress would give all of its addresses."""
    return isinstance(given, str) or hasattr(given, "prefixlen") or hasattr(given, "max_prefixlen")


def _network(entry: str, setting: str) -> IPv4Network | IPv6Network:
    import ipaddress

    told = _without_zone(entry)
    try:
        network = ipaddress.ip_network(told, strict=False)
    except ValueError:
        raise ConfigurationError(
            f'{setting}: {entry!r} is no address and no network: write, for example, "10.0.0.7" or "10.0.0.0/8"'
        ) from None
    if ipaddress.ip_interface(told).ip != network.network_address:
        raise ConfigurationError(f"{setting}: {entry!r} is an address within a network: write {str(network)!r}")
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _without_zone(entry: str) -> str:
    """An IPv6 address, or network, without the name of an interface: ``fe80::%eth0/64`` is ``fe80::/64``."""
    address, percent, rest = entry.partition("%")
    if not percent or ":" not in address:
        return entry
    zone, slash, prefix = rest.partition("/")
    return address + slash + prefix if zone else entry


def _address(host: str) -> IPv4Address | IPv6Address | None:
    import ipaddress

    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
