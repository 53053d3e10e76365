"""The classes that declarations name, in an installed package or in a Python file beside the declarations."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from matching_pipeline.errors import ConfigurationError

PACKAGE = "matching_pipeline_defs"
"""The Python files of the folder of declarations are imported as parts of this package, also by Dagster."""


def as_package(folder: Path) -> ModuleType:
    """The folder need not be a package, nor a part of a Dagster project."""
    location = [str(folder.absolute())]
    if (known := sys.modules.get(PACKAGE)) and known.__path__ == location:
        return known
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = location
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return sys.modules[PACKAGE]


def code_of(name: str) -> bytes:
    """The file of a class, which is not imported for it; empty if there is none."""
    try:
        spec = importlib.util.find_spec(name.rpartition(".")[0], PACKAGE)
    except ModuleNotFoundError:
        return b""
    return Path(spec.origin).read_bytes() if spec and spec.origin else b""


def load_class(asset: str, name: str) -> type[Any]:
    """Raises ConfigurationError if it cannot be imported."""
    module, _, attribute = name.rpartition(".")
    try:
        found: type[Any] = getattr(importlib.import_module(module, PACKAGE), attribute)
    except Exception as error:
        raise ConfigurationError(f"{asset}: handler: {name} cannot be imported: {error}") from error
    return found
