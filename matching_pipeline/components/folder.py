"""Loads the components of a folder that need not be a Python package, nor a part of a Dagster project."""

import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path

import dagster as dg

PACKAGE = "matching_pipeline_defs"
"""Dagster imports Python files of the folder as parts of this package."""


def definitions_in(folder: Path) -> dg.Definitions:
    if not any(folder.rglob("defs.yaml")):
        return dg.Definitions()
    folder = folder.absolute()
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    with warnings.catch_warnings():
        # they are about Dagster's own code; `load_from_defs_folder`, which needs a project, ignores them too
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        return dg.ComponentTree.from_module(package, project_root=folder.parent).build_defs()
