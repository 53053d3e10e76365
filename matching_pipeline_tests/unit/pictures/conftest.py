"""A web server on loopback that misbehaves on demand, pictures to serve from it, and picture stores."""

import gzip
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import brotli
import pytest
from backports import zstd
from PIL import Image

from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline_tests.fixtures.bucket import Bucket

Fetch = Callable[[str], bytes]


@pytest.fixture(scope="session")
def picture_bytes() -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), "teal").save(file, "PNG")
    return file.getvalue()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, picture: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.picture = picture
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.refusal = b""
        self.lock = threading.Lock()
        self.allowed = 0
        self.retry_after = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Many tests let the client hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers.items())))
        name, _, argument = self.path.partition("?")[0].strip("/").partition("/")
        ROUTES[name](self, argument)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps pytest's output short."""


def _without_length(handler: Handler, argument: str) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(int(argument)):
        handler.wfile.write(bytes(2**16))
    handler.close_connection = True


def _drip(handler: Handler, argument: str) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    if argument == "body":
        handler.wfile.write(b"Content-Length: 1000\r\n\r\n")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def _hang(handler: Handler, argument: str) -> None:
    time.sleep(5)


def _reset(handler: Handler, argument: str) -> None:
    handler.answer(200, b"the beginning", Content_Length="1000")
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)  # on, for no time: the connection is reset
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.rfile.close()
    handler.connection.close()


def _compressed(data: bytes, encodings: str) -> bytes:
    for encoding in encodings.split(","):
        match encoding:
            case "gzip":
                data = gzip.compress(data)
            case "br":
                data = brotli.compress(data, quality=1)
            case "zstd":
                data = zstd.compress(data)
            case "gzip-members":
                data = gzip.compress(data[:99]) + gzip.compress(data[99:])
            case "zstd-frames":
                data = zstd.compress(data[:99]) + zstd.compress(data[99:])
            case "deflate":
                data = zlib.compress(data)
            case "raw-deflate":
                data = zlib.compress(data, wbits=-15)
    return data


def _limited(handler: Handler, argument: str) -> None:
    """Answers as many requests as the server allows, and asks the others to wait."""
    server = handler.server
    with server.lock:
        server.allowed -= 1
        allowed = server.allowed >= 0
    if allowed:
        handler.answer(200, server.picture)
    else:
        headers = {"Retry_After": server.retry_after} if server.retry_after else {}
        handler.answer(int(argument or 429), b"", **headers)


def _redirect(handler: Handler, argument: str) -> None:
    handler.answer(302, Location=argument)


def _garbage(handler: Handler, argument: str) -> None:
    handler.wfile.write(b"not HTTP at all\r\n\r\n")


ROUTES: dict[str, Callable[[Handler, str], None]] = {
    "picture": lambda handler, _: handler.answer(200, handler.server.picture),
    "bucket": lambda handler, _: handler.answer(
        200, handler.server.picture, Last_Modified="Wed, 21 Oct 2015 07:28:00 GMT", ETag='"1"'
    ),
    "status": lambda handler, argument: handler.answer(int(argument), b"body"),
    "empty": lambda handler, _: handler.answer(200),
    "declared": lambda handler, argument: handler.answer(200, Content_Length=argument),
    "without-length": _without_length,
    "drip": _drip,
    "hang": _hang,
    "reset": _reset,
    "ends-early": lambda handler, _: handler.answer(200, b"the beginning", Content_Length="1000", Connection="close"),
    "hop": lambda handler, argument: handler.answer(302, Location=f"/{argument}"),
    "loop": lambda handler, _: handler.answer(302, Location="/loop", Set_Cookie="seen=1"),
    "redirect": _redirect,
    "html": lambda handler, _: handler.answer(200, b"<!DOCTYPE html><html>No picture</html>"),
    "encoded": lambda handler, argument: handler.answer(
        200,
        _compressed(handler.server.picture, argument),
        Content_Encoding=re.sub("raw-|-members|-frames", "", argument),
    ),
    "cut": lambda handler, argument: handler.answer(
        200, _compressed(handler.server.picture, argument)[:-9], Content_Encoding=argument
    ),
    "wrong": lambda handler, argument: handler.answer(200, b"\xff" * 99, Content_Encoding=argument),
    "labelled": lambda handler, argument: handler.answer(200, handler.server.picture, Content_Encoding=argument),
    "refused": lambda handler, argument: handler.answer(int(argument), handler.server.refusal),
    "refused-without-end": lambda handler, _: handler.answer(404, b"", Content_Length="10"),
    "limited": _limited,
    "gzip": lambda handler, _: handler.answer(200, gzip.compress(handler.server.picture), Content_Encoding="gzip"),
    "cut-gzip": lambda handler, _: handler.answer(
        200, gzip.compress(handler.server.picture)[:-9], Content_Encoding="gzip"
    ),
    "bomb": lambda handler, argument: handler.answer(
        200, _compressed(bytes(2**25), argument or "gzip"), Content_Encoding=argument or "gzip"
    ),
    "garbage": _garbage,
}


@pytest.fixture
def server(picture_bytes: bytes) -> Iterator[Server]:
    with Server(picture_bytes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def public_fetch() -> Iterator[Fetch]:
    with ImageFetcher(FetchLimits(timeout_seconds=2)) as fetcher:
        yield fetcher.fetch


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
def store(folder: Path) -> PictureStore:
    return PictureStore(folder.as_uri())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
