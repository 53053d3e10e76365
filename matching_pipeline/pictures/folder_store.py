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

from matching_pipeline.errors import ConfigurationError, ProviderUnavailable

RETRY_AFTER: Final = timedelta(minutes=2)
SET_UP_WRONGLY: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
)


class PictureFolder:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or path[:1] != "/" or not path.strip("/") or "\0" in path:
            raise ConfigurationError(f"GENERATED_IMAGES_URL: {url!r} does not name a folder as file:///folder")
        if parts.query or parts.fragment:
            raise ConfigurationError(f"GENERATED_IMAGES_URL: {url!r}: write ? as %3F and # as %23")
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
        unfinished = _part_of(path)
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

    def remove_old(self, name: str, latest: datetime) -> bool:
        path = self._root / name
        aside = _part_of(path)
        with self._failures(), suppress(FileNotFoundError):
            if _changed(path) > latest:
                return False
            # from here on `renew` finds none, and writes it anew
            path.rename(aside)
            if _changed(aside) > latest:
                aside.rename(path)
                return False
            aside.unlink()
            return True
        return False

    def files(self) -> Iterator[tuple[str, datetime]]:
        with self._failures():
            paths = [Path(folder, name) for folder, _, names in os.walk(self._root) for name in names]
        for path in paths:
            with self._failures(), suppress(FileNotFoundError):
                yield path.relative_to(self._root).as_posix(), _changed(path)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"GENERATED_IMAGES_URL: {self.url} cannot be used: {error.strerror}"
            if error.errno in SET_UP_WRONGLY:
                raise ConfigurationError(message) from error
            raise ProviderUnavailable(message, RETRY_AFTER) from error


def _part_of(path: Path) -> Path:
    """A name beside it that nobody else has and that is collected one day."""
    picture = path.name.removesuffix(".part").split(".")[:2]
    return path.with_name(f"{'.'.join(picture)}.{secrets.token_hex(8)}.part")


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


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
