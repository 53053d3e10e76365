"""Folders of declarations, as a team writes them."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from matching_pipeline.components.folder import definitions_in

Load = Callable[..., dg.Definitions]
"""Loads YAML, by the name of its folder."""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(**files: str) -> dg.Definitions:
        for name, text in files.items():
            (tmp_path / "defs" / name).mkdir(parents=True)
            (tmp_path / "defs" / name / "defs.yaml").write_text(text)
        return definitions_in(tmp_path / "defs")

    return load
