"""Keeps the pictures that the pipeline makes, in a folder or a bucket, each under the hash of its bytes."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol
from urllib.parse import urlsplit

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.pictures.bucket_store import PictureBucket
from matching_pipeline.pictures.folder_store import PictureFolder
from matching_pipeline.pictures.object_storage import OBJECT_STORAGE_SCHEMES

NAME: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]+(\.[0-9a-f]+\.part)?")

PROBE: Final = f"00/00/{'0' * 64}.probe"


class Place(Protocol):
    """Where files are kept by name. Raises ConfigurationError and ProviderUnavailable only."""

    url: str
    """the names' beginning, without a slash at its end"""

    def renew(self, name: str, size: int) -> bool:
        """Whether the file is there in full; if so, it counts as new from now on."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """The whole file or nothing: nobody ever sees a part of it."""
        ...

    def remove(self, name: str) -> None:
        """It is no failure when there is none."""
        ...

    def remove_old(self, name: str, latest: datetime) -> bool:
        """Removes the file unless it is gone or was written or renewed after `latest`; says whether it did."""
        ...

    def files(self) -> Iterator[tuple[str, datetime]]:
        """Name and time of last change of all that is there."""
        ...


class PictureStore:
    """Pictures below the URL of the setting GENERATED_IMAGES_URL: `file:///folder`, `s3://…`, `gs://…`, `az://…`.

    Many processes may use one place at once. Raises ConfigurationError where the setting cannot be right, and
    ProviderUnavailable where the place is full or away.
    """

    def __init__(self, url: str) -> None:
        self._place = _place(url)

    def put(self, data: bytes, extension: str) -> str:
        """Keeps the bytes and returns their URL; the same bytes have the same URL and are written once.

        When it returns, the picture is there to stay, so a row may name it. A caller that dies before it wrote that
        row leaves a picture that `list` finds.
        """
        digest = sha256(data).hexdigest()
        name = f"{digest[:2]}/{digest[2:4]}/{digest}.{extension}"
        if not self._place.renew(name, len(data)):
            self._place.write(name, data)
        return f"{self._place.url}/{name}"

    def probe(self) -> None:
        """Raises what `put` would, for who wants to know before a picture is paid for."""
        self._place.write(PROBE, b"probe")
        self._place.remove(PROBE)

    def delete(self, url: str, older_than: timedelta) -> bool:
        """Removes a picture of this store if it still is so old; nothing else can be named. Says whether it did.

        In a folder, `put` at the same moment keeps the picture. In a bucket one request lies between the look at its
        age and its end, and a picture that is put just then is lost.
        """
        name = url.removeprefix(f"{self._place.url}/")
        if name == url or not NAME.fullmatch(name):
            raise ValueError(f"{url} is no picture below GENERATED_IMAGES_URL ({self._place.url})")
        return self._place.remove_old(name, datetime.now(UTC) - older_than)

    def list(self, older_than: timedelta) -> Iterator[str]:
        """The URLs of what was put, or begun to be put, at least so long ago; files of others are left out.

        What no row names can be deleted. `put` makes a picture young again, so with an age that is longer than any
        caller takes from `put` to its row's commit, no picture is deleted that is about to be named.
        """
        latest = datetime.now(UTC) - older_than
        for name, changed in self._place.files():
            if changed <= latest and NAME.fullmatch(name):
                yield f"{self._place.url}/{name}"


def _place(url: str) -> Place:
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return PictureFolder(url)
    if scheme in OBJECT_STORAGE_SCHEMES:
        return PictureBucket(url)
    raise ConfigurationError(
        f"GENERATED_IMAGES_URL: {url!r} is not file:///folder, s3://bucket/prefix, gs://… or az://…"
    )
