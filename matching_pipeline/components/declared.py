"""The components: what Dagster makes of a declaration in YAML. Their attributes are the declarations' own fields."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import dagster as dg

from matching_pipeline.components.gallery_link import linked
from matching_pipeline.components.generated_images import generated_asset, generated_report
from matching_pipeline.components.items import items_asset, items_report
from matching_pipeline.components.maintenance import cleanup, cleanup_schedule
from matching_pipeline.components.matches import matches_asset, matches_report
from matching_pipeline.components.nightly import nightly
from matching_pipeline.components.parity import sampled_lists_are_exact
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.components.resources import pipeline_in
from matching_pipeline.components.sensors import queue_sensor, worker_sensor
from matching_pipeline.components.source_checks import is_attached
from matching_pipeline.components.sources import app_tables
from matching_pipeline.components.worker import process_now, worker
from matching_pipeline.sources import declarations as declared
from matching_pipeline.sources import source as declared_source
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.fields import Fields

D = TypeVar("D", bound=Fields)


class PipelineComponent(dg.Component):
    """A component of this package."""


@dataclass(frozen=True)
class DeclaredComponent(PipelineComponent, Generic[D]):
    """A component with a declaration. The other components of its folder can read it."""

    declaration: D
    fields: ClassVar[type[Fields]]

    @classmethod
    def get_model_cls(cls) -> type[Fields]:
        return cls.fields

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> Self:
        # Dagster gives None if the YAML has no attributes
        declaration: Any = cls.fields.model_validate({}) if attributes is None else attributes
        return cls(declaration)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        tree = context.component_tree
        components: list[PipelineComponent] = tree.get_all_components(of_type=PipelineComponent)  # type: ignore[type-abstract]
        with_declaration = [each for each in components if isinstance(each, DeclaredComponent)]
        parts = [self.definitions(Declarations.of(each.declaration for each in with_declaration))]
        if with_declaration[0] is self and not any(isinstance(each, Worker) for each in components):
            parts.append(worker_definitions())
        return dg.Definitions.merge(*parts, resources_in(context))

    @abstractmethod
    def definitions(self, declarations: Declarations) -> dg.Definitions:
        """The Dagster definitions for this declaration, given all declarations of the folder."""


class Source(DeclaredComponent[declared_source.Source]):
    """A table of the app: which of its rows count, and where their pictures, text or vector are."""

    fields = declared_source.Source

    def definitions(self, declarations: Declarations) -> dg.Definitions:
        name = self.declaration.name
        return dg.Definitions(
            assets=linked(app_tables(declarations).get(name, ()), f"/sources/{name}"),
            asset_checks=[is_attached(self.declaration).definition],
        )


class ItemsComponent(DeclaredComponent[declared.OfItems]):
    def definitions(self, declarations: Declarations) -> dg.Definitions:
        return reported(items_asset(self.declaration, declarations), items_report(self.declaration))


class ImageEmbeddings(ItemsComponent):
    """An asset: the embeddings and attributes of the pictures of some sources."""

    fields = declared.ImageEmbeddings


class TextEmbeddings(ItemsComponent):
    """An asset: the embeddings of the texts of some sources."""

    fields = declared.TextEmbeddings


class Derived(ItemsComponent):
    """An asset: a value that a class of yours computes of each picture or text of some sources."""

    fields = declared.Derived


class Matches(DeclaredComponent[declared.Matches]):
    """The asset of all matches, and the nightly job that rebuilds them."""

    fields = declared.Matches

    def definitions(self, declarations: Declarations) -> dg.Definitions:
        asset, report = matches_asset(self.declaration, declarations), matches_report(self.declaration, declarations)
        parity = dg.Definitions(asset_checks=[sampled_lists_are_exact(self.declaration).definition])
        is_first = declarations.matches[0] == self.declaration
        # one job serves all assets of matches
        return dg.Definitions.merge(reported(asset, report), parity, *([nightly(declarations)] if is_first else []))


class GeneratedImages(DeclaredComponent[declared.GeneratedImages]):
    """An asset: pictures that a provider makes from the photos of a source."""

    fields = declared.GeneratedImages

    def definitions(self, declarations: Declarations) -> dg.Definitions:
        return reported(generated_asset(self.declaration, declarations), generated_report(self.declaration))


class Worker(PipelineComponent):
    """The worker of all declared queues, and the hourly cleanup.

    If no Worker is declared, the folder's first component adds them.
    """

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions.merge(worker_definitions(), resources_in(context))


def worker_definitions() -> dg.Definitions:
    return dg.Definitions(jobs=[worker, process_now, cleanup], sensors=[worker_sensor], schedules=[cleanup_schedule])


def reported(asset: dg.AssetsDefinition, report: AssetReport) -> dg.Definitions:
    """An asset, the checks that come with its report, and a sensor for each of its queues."""
    return dg.Definitions(
        assets=linked([asset]),
        asset_checks=[check.definition for check in report.checks],
        sensors=[queue_sensor(queue, detects) for queue, detects in report.detects.items()],
    )


def resources_in(context: dg.ComponentLoadContext) -> dg.Definitions:
    return dg.Definitions(resources={"pipeline": pipeline_in(context.defs_module_path)})
