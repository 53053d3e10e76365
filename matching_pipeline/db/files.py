"""Where the files that belong to the package are: the repository's own folders, or their copy in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

ROOT = _PACKAGE.parent if (_PACKAGE.parent / "sql").is_dir() else _PACKAGE / "bundled"
