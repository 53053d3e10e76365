"""The four apps of the examples: what each declares (`defs.yaml`) and its tables (`tables.sql`)."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
