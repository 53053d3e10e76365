"""The version of code, settings and declarations that a worker runs: sensors relieve a worker that runs another."""

import hashlib
from pathlib import Path

import matching_pipeline
from matching_pipeline.db.files import ROOT
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.named_class import code_of


def _hash_of_code() -> str:
    files = [*Path(matching_pipeline.__file__).parent.rglob("*.py"), *(ROOT / "sql").rglob("*.sql")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


CODE = _hash_of_code()
"""The hash of the files as they were when this process loaded them."""


def version_of(settings: Settings, declarations: Declarations) -> str:
    """A hash of this process' code, the settings, the declarations and the files of the classes that they name.

    It reveals none of them.
    """
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    digest = hashlib.sha256(f"{CODE}\n{settings!r}\n{key}\n{declarations!r}".encode())
    for asset in declarations.derived:
        digest.update(code_of(asset.handler))
    return digest.hexdigest()[:16]
