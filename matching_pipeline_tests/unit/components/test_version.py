"""A worker is relieved when it was started for other code, settings or declarations."""

from matching_pipeline.components.version import version_of
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.source import Source

SOURCE = Source(name="posting", table="public.jobs", text=("t.title",))


def test_equal_settings_and_declarations_are_one_version() -> None:
    assert version_of(Settings(), Declarations.of([SOURCE])) == version_of(Settings(), Declarations.of([SOURCE]))


def test_another_declaration_is_another_version() -> None:
    changed = SOURCE.model_copy(update={"when": "t.is_active"})
    assert version_of(Settings(), Declarations.of([SOURCE])) != version_of(Settings(), Declarations.of([changed]))


def test_another_setting_is_another_version() -> None:
    declarations = Declarations()
    assert version_of(Settings(), declarations) != version_of(Settings(max_workers=7), declarations)
