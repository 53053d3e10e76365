"""Pictures in a folder of the machine, or one that is mounted there."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from matching_pipeline.failures import ConfigurationError, ProviderUnavailable

RETRY_AFTER: Final = timedelta(minutes=2)
SET_UP_WRONGLY: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
)


class PictureFolder:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
            raise ConfigurationError(f"IMAGES_URL: {url!r} does not name a folder as file:///folder")
        self._root = Path(path)
        self.url = self._root.as_uri().rstrip("/")

    def renew(self, name: str, size: int) -> bool:
        path = self._root / name
        with self._failures():
            try:
                os.utime(path)
                return path.stat().st_size == size
            except FileNotFoundError:
                return False

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        with self._failures():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_through(unfinished, data)
                unfinished.rename(path)
            except OSError:
                with suppress(OSError):
                    unfinished.unlink()
                raise
            _keep_entries(path.parent, self._root)

    def remove(self, name: str) -> None:
        with self._failures():
            (self._root / name).unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[str, datetime]]:
        with self._failures():
            paths = [Path(folder, name) for folder, _, names in os.walk(self._root) for name in names]
        for path in paths:
            with self._failures(), suppress(FileNotFoundError):
                changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield path.relative_to(self._root).as_posix(), changed

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"IMAGES_URL: {self.url} cannot be used: {error.strerror}"
            if error.errno in SET_UP_WRONGLY:
                raise ConfigurationError(message) from error
            raise ProviderUnavailable(message, RETRY_AFTER) from error


def _write_through(path: Path, data: bytes) -> None:
    """Returns when the data are on the disk and not only on their way."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep_entries(folder: Path, root: Path) -> None:
    """Makes what folders say of their files last through a power failure, up to the root and its own folder."""
    for path in (folder, folder.parent, root, root.parent):
        with suppress(PermissionError):  # the root's folder need not be ours to open
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
