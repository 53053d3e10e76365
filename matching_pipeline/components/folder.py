"""Loads the components of a folder that need not be a Python package, nor a part of a Dagster project."""

import warnings
from pathlib import Path

import dagster as dg

from matching_pipeline.sources.named_class import as_package


def definitions_in(folder: Path) -> dg.Definitions:
    if not any(folder.rglob("defs.yaml")):
        return dg.Definitions()
    folder = folder.absolute()
    with warnings.catch_warnings():
        # they are about Dagster's own code; `load_from_defs_folder`, which needs a project, ignores them too
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        tree = dg.ComponentTree.from_module(as_package(folder), project_root=folder.parent)
        # those of the tree's root also describe all components that are installed, which only Dagster+ shows
        return tree.build_defs(folder)
