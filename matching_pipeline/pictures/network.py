"""Keeps the fetcher off private networks: it checks the very address that a connection goes to."""

import socket
from asyncio import get_running_loop
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpcore

from matching_pipeline.errors import PermanentFailure

CONNECT_SECONDS = 10  # for one address, so that there is time for the next one if it is dead

NAT64 = ip_network("64:ff9b::/96")
GLOBAL_UNICAST_IPV6 = ip_network("2000::/3")
CLOUD_INTERNAL = (  # public by `is_global`, but clouds answer their own machines there
    ip_network("192.0.0.0/24"),  # IETF protocol assignments; Oracle's metadata service
    ip_network("168.63.129.16/32"),  # Azure's host agent
)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address belongs to the open internet. An IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is not None:
            return is_public(embedded)
        return address in GLOBAL_UNICAST_IPV6 and address.is_global
    return (
        address.is_global and not address.is_multicast and not any(address in network for network in CLOUD_INTERNAL)
    )


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, unless private hosts are allowed.

    It resolves a host name once, and connects to the addresses that it has checked. So a name whose second answer
    differs (DNS rebinding) gains nothing. Opens every connection, also those of redirects.
    """

    def __init__(self, *, allow_private_hosts: bool) -> None:
        self._allow_private_hosts = allow_private_hosts
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        if not self._allow_private_hosts:
            _refuse_private(host, addresses)
        for address in addresses:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._backend.connect_tcp(
                    str(address), port, timeout or CONNECT_SECONDS, local_address, socket_options
                )
        raise httpcore.ConnectError(f"no connection to {host}, port {port}")


def _refuse_private(host: str, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
    for address in addresses:
        if not is_public(address):
            raise PermanentFailure(
                f"host {host} is at {address}, not a public address; IMAGE_ALLOW_PRIVATE_HOSTS is off"
            )


async def _resolve(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    """The host's addresses, best first."""
    if not 0 < port < 2**16:
        raise PermanentFailure(f"there is no port {port}")
    try:
        answers = await get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise PermanentFailure(f"malformed host name {host}") from error
    except OSError as error:
        raise httpcore.ConnectError(f"host {host} cannot be resolved: {error.strerror}") from error
    return [ip_address(sockaddr[0]) for *_, sockaddr in answers]
