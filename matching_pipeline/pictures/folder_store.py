"""Files in a folder of this machine, or in one that is mounted there."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from matching_pipeline.pictures.local_file import path_of

SET_UP_WRONGLY: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
)


class FolderStore:
    """Keeps files by name. `url` is the beginning of their URLs, without a slash at its end."""

    def __init__(self, url: str) -> None:
        path = path_of(url)
        if path is None or not path.strip("/"):
            raise ValueError(f"{url!r} does not name a folder as file:///folder")
        parts = urlsplit(url)
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r}: write ? as %3F and # as %23")
        self._root = Path(path)
        self.url = self._root.as_uri().rstrip("/")

    def renew(self, name: str, size: int) -> bool:
        """Returns whether the whole file is there. If so, its age begins again."""
        path = self._root / name
        try:
            os.utime(path)
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def write(self, name: str, data: bytes) -> None:
        """Writes the whole file or nothing: no reader ever sees a part of it."""
        path = self._root / name
        unfinished = _part_of(path)
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
        """A file that does not exist is not an error."""
        (self._root / name).unlink(missing_ok=True)

    def remove_old(self, name: str, latest: datetime) -> bool:
        """Removes the file if it was last written or renewed at `latest` or before. Returns whether it did."""
        path = self._root / name
        aside = _part_of(path)
        with suppress(FileNotFoundError):
            if _changed(path) > latest:
                return False
            # from here on `renew` finds no file, and its caller writes one
            path.rename(aside)
            if _changed(aside) > latest:
                aside.rename(path)
                return False
            aside.unlink()
            return True
        return False

    def files(self) -> Iterator[tuple[str, datetime]]:
        """The name of each file, and when it was last written or renewed."""
        for path in [Path(folder, name) for folder, _, names in os.walk(self._root) for name in names]:
            with suppress(FileNotFoundError):
                yield path.relative_to(self._root).as_posix(), _changed(path)

    def explain(self, error: Exception) -> tuple[str, bool] | None:
        """The reason of an error of the other methods, and whether a person must act. None for any other error."""
        return (str(error.strerror), error.errno in SET_UP_WRONGLY) if isinstance(error, OSError) else None


def _part_of(path: Path) -> Path:
    """A name beside it that no other writer has. `PictureStore.list` finds the file if its writer dies."""
    picture = path.name.removesuffix(".part").split(".")[:2]
    return path.with_name(f"{'.'.join(picture)}.{secrets.token_hex(8)}.part")


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _write_through(path: Path, data: bytes) -> None:
    """Returns after the disk has the data."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep_entries(folder: Path, root: Path) -> None:
    """Makes the entries of folders outlast a power failure, up to the root and the folder that holds it."""
    for path in (folder, folder.parent, root, root.parent):
        with suppress(PermissionError):  # the pipeline may have no right to open the folder that holds the root
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
