"""The gallery's server: in the foreground, or in a thread beside something else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from matching_pipeline.gallery.app import make_app
from matching_pipeline.settings import Settings


def serve(settings: Settings, database_url: str, host: str, port: int) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    _server(settings, database_url, host, port).run()


@contextmanager
def serving(settings: Settings, database_url: str, port: int) -> Iterator[str]:
    """Serves until the block ends, and yields the address."""
    server = _server(settings, database_url, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, name="gallery", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def _server(settings: Settings, database_url: str, host: str, port: int) -> uvicorn.Server:
    app = make_app(settings, database_url, host)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    return uvicorn.Server(config)
