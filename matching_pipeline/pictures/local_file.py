"""Pictures from folders of the machine itself."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from matching_pipeline.errors import PermanentFailure, TransientFailure
from matching_pipeline.pictures.size_limit import refuse_oversize


def read_file(url: str, roots: Sequence[Path], max_bytes: int) -> bytes:
    """The content of a `file://` URL, provided that it lies below one of the roots, links resolved."""
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


def _resolve(url: str, roots: Sequence[Path]) -> Path:
    parts = urlsplit(url)
    encoded_path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not encoded_path.startswith("/") or "\0" in encoded_path:
        raise PermanentFailure("malformed URL: a file is named as file:///folder/file")
    path = Path(os.path.realpath(encoded_path))
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise PermanentFailure("not below a folder of IMAGE_FILE_ROOTS")
    return path
