"""Keeps the pictures that the pipeline makes, in a folder or a bucket, each under the hash of its bytes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.pictures.bucket_store import BucketStore
from matching_pipeline.pictures.folder_store import FolderStore
from matching_pipeline.pictures.object_storage import OBJECT_STORAGE_SCHEMES

NAME: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]+(\.[0-9a-f]+\.part)?")
PROBE: Final = f"00/00/{'0' * 64}.probe"
RETRY_AFTER: Final = timedelta(minutes=2)


class PictureStore:
    """Pictures below the URL of the setting GENERATED_IMAGES_URL: `file:///folder`, `s3://…`, `gs://…`, `az://…`.

    Many processes may use one store at once. Every method raises ConfigurationError if that setting is wrong, and
    ProviderUnavailable if the store is full or out of reach.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files = _open(url)
        except ValueError as error:
            raise ConfigurationError(f"GENERATED_IMAGES_URL: {error}") from error

    def put(self, data: bytes, extension: str) -> str:
        """Stores the picture durably and returns its URL. The same bytes have the same URL and are written once.

        If the caller dies before it writes a row with that URL, `list` finds the picture.
        """
        digest = sha256(data).hexdigest()
        name = f"{digest[:2]}/{digest[2:4]}/{digest}.{extension}"
        with self._failures():
            if not self._files.renew(name, len(data)):
                self._files.write(name, data)
        return f"{self._files.url}/{name}"

    def probe(self) -> None:
        """Raises what `put` would raise, before the caller pays for a picture."""
        with self._failures():
            self._files.write(PROBE, b"probe")
            self._files.remove(PROBE)

    def delete(self, url: str, older_than: timedelta) -> bool:
        """Removes a picture of this store if it is still so old. Returns whether it did.

        Raises ValueError if the URL names anything else. In a folder, a `put` at the same moment keeps the
        picture. In a bucket, a `put` between the look at the picture's age and its removal loses the picture.
        """
        name = url.removeprefix(f"{self._files.url}/")
        if name == url or not NAME.fullmatch(name):
            raise ValueError(f"{url} is not a picture below GENERATED_IMAGES_URL ({self._files.url})")
        with self._failures():
            return self._files.remove_old(name, datetime.now(UTC) - older_than)

    def list(self, older_than: timedelta) -> Iterator[str]:
        """The URLs of pictures and of unfinished ones that are so old. Files of others are left out.

        Those without a row can be deleted. `put` renews a picture's age: if `older_than` is longer than any caller
        takes from `put` to its row's commit, no picture is deleted that a row is about to name.
        """
        latest = datetime.now(UTC) - older_than
        with self._failures():
            for name, changed in self._files.files():
                if changed <= latest and NAME.fullmatch(name):
                    yield f"{self._files.url}/{name}"

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            explained = self._files.explain(error)
            if explained is None:
                raise
            reason, is_permanent = explained
            message = f"GENERATED_IMAGES_URL: {self._files.url} cannot be used: {reason}"
            if is_permanent:
                raise ConfigurationError(message) from error
            raise ProviderUnavailable(message, RETRY_AFTER) from error


def _open(url: str) -> FolderStore | BucketStore:
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return FolderStore(url)
    if scheme in OBJECT_STORAGE_SCHEMES:
        return BucketStore(url)
    raise ValueError(f"{url!r} is not file:///folder, s3://bucket/prefix, gs://… or az://…")
