import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import pytest

from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.network import is_public
from matching_pipeline_tests.unit.pictures.conftest import Fetch, Server


@pytest.fixture
def resolve_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets every host name resolve to the given addresses: one list for each look-up."""

    def install(*answers: list[str]) -> None:
        remaining = list(answers)

        def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> list[tuple[Any, ...]]:
            addresses = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return install


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "localhost",
        "0.0.0.0",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
    ],
)
def test_private_hosts_are_refused_in_every_spelling(public_fetch: Fetch, server: Server, host: str) -> None:
    with pytest.raises(JobFailure) as caught:
        public_fetch(f"http://{host}:{server.server_port}/picture")
    assert caught.type is PermanentFailure or "cannot be resolved" in str(caught.value)
    assert server.connections == 0


def test_the_refusal_names_its_setting(public_fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure, match="IMAGE_ALLOW_PRIVATE_HOSTS"):
        public_fetch(f"{server.url}/picture")


def test_a_public_name_at_a_private_address_is_refused(
    public_fetch: Fetch, server: Server, resolve_to: Callable[..., None]
) -> None:
    resolve_to(["127.0.0.1"])
    with pytest.raises(PermanentFailure, match="IMAGE_ALLOW_PRIVATE_HOSTS"):
        public_fetch(f"http://pictures.example.com:{server.server_port}/picture")
    assert server.connections == 0


def test_one_private_address_among_public_ones_is_refused(
    public_fetch: Fetch, server: Server, resolve_to: Callable[..., None]
) -> None:
    resolve_to(["93.184.216.34", "127.0.0.1"])
    with pytest.raises(PermanentFailure, match="IMAGE_ALLOW_PRIVATE_HOSTS"):
        public_fetch(f"http://pictures.example.com:{server.server_port}/picture")
    assert server.connections == 0


def test_a_name_is_resolved_once_and_its_checked_address_used(
    monkeypatch: pytest.MonkeyPatch, server: Server, resolve_to: Callable[..., None]
) -> None:
    """A rebinding name: public at the check, private at the next look-up."""
    resolve_to(["192.0.2.1"], ["127.0.0.1"])
    monkeypatch.setattr("matching_pipeline.pictures.network.is_public", lambda address: str(address) != "127.0.0.1")
    with ImageFetcher(FetchLimits(timeout_seconds=0.5)) as fetcher, pytest.raises(TransientFailure):
        fetcher.fetch(f"http://pictures.example.com:{server.server_port}/picture")
    assert server.connections == 0


def test_tls_is_asked_for_by_the_name_of_the_host(resolve_to: Callable[..., None]) -> None:
    resolve_to(["127.0.0.1"])
    limits = FetchLimits(timeout_seconds=1, allow_private_hosts=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def first_bytes() -> bytes:
            connection, _ = listener.accept()
            with connection:
                return connection.recv(2**16)

        hello = thread.submit(first_bytes)
        with ImageFetcher(limits) as fetcher, pytest.raises(TransientFailure):
            fetcher.fetch(f"https://pictures.example.com:{listener.getsockname()[1]}/picture")
    assert b"pictures.example.com" in hello.result()


def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """127.0.0.1 plays the public server here, and 127.0.0.2 the private one."""
    monkeypatch.setattr("matching_pipeline.pictures.network.is_public", lambda address: str(address) == "127.0.0.1")
    target = f"http://127.0.0.2:{server.server_port}/picture"
    with ImageFetcher(FetchLimits()) as fetcher, pytest.raises(PermanentFailure, match=r"127\.0\.0\.2"):
        fetcher.fetch(f"{server.url}/redirect/{target}")
    assert [path for path, _ in server.requests] == [f"/redirect/{target}"]


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.192",
        "198.18.0.1",
        "168.63.129.16",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
    ],
)
def test_an_address_off_the_open_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::"],
)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))
