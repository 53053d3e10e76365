"""Pictures from folders of this machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from matching_pipeline.errors import PermanentFailure, TransientFailure
from matching_pipeline.pictures.size_limit import refuse_oversize


def read_file(url: str, roots: Sequence[Path], max_bytes: int) -> bytes:
    """The content of a `file://` URL. After links are resolved, the file must lie below one of the roots."""
    try:
        path = _resolve(url, roots)
        if not path.is_file():
            raise PermanentFailure("no such file" if not path.exists() else "not a regular file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise PermanentFailure(f"cannot be read: {error.strerror}") from error
    except OSError as error:
        raise TransientFailure(f"cannot be read: {error.strerror}") from error
    refuse_oversize(len(content), max_bytes)
    return content


def path_of(url: str) -> str | None:
    """The absolute path that a `file://` URL names on this machine, or None."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    return path if parts.netloc in ("", "localhost") and path.startswith("/") and "\0" not in path else None


def _resolve(url: str, roots: Sequence[Path]) -> Path:
    named = path_of(url)
    if named is None:
        raise PermanentFailure("malformed URL: a file is named as file:///folder/file")
    path = Path(os.path.realpath(named))
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise PermanentFailure("not below a folder of IMAGE_FILE_ROOTS")
    return path
