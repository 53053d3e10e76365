"""Each night some lists of `matches` are computed by the definition and must be the same."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from matching_pipeline.components.reporting import reported_check
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.matches import faces, projects
from matching_pipeline.matches.parity import Parity, sampled_parity

SAMPLE = 20
"""Lists of each kind: each is scored against everything, by plain code."""


@reported_check(
    asset="matches",
    description=f"{SAMPLE} projects' and {SAMPLE} faces' lists, others each day, equal the definition's, "
    "computed without the kernel. It comes with a rebuild only.",
)
def sampled_lists_are_exact(pipeline: Pipeline) -> dg.AssetCheckResult:
    # a day's sample: who looks again looks at the same
    seed = datetime.now(UTC).date().toordinal()
    with pipeline.connection() as connection:
        found = {kind: sampled_parity(connection, kind, SAMPLE, seed) for kind in (projects.KIND, faces.KIND)}
    verdicts = [parity.holds for parity in found.values()]
    return dg.AssetCheckResult(
        passed=False not in verdicts,
        description=_told(found),
        metadata={name: value for kind, parity in found.items() for name, value in _figures(kind, parity).items()},
    )


def _told(found: dict[str, Parity]) -> str:
    """Numbers only: an erasure of a face does not reach the copies that Dagster keeps."""
    return "; ".join(
        f"{parity.equal} of {parity.sampled} {kind} lists are equal"
        + (f", the rest not judged: {parity.waiting} pieces of work wait" if parity.holds is None else "")
        for kind, parity in found.items()
    )


def _figures(kind: str, parity: Parity) -> dict[str, Any]:
    figures = {
        "lists sampled": parity.sampled,
        "lists equal": parity.equal,
        "lists not judged": parity.sampled - parity.equal if parity.holds is None else 0,
        "pairs missing": parity.missing,
        "pairs stale": parity.stale,
        "pairs surplus": parity.surplus,
        "work waiting": parity.waiting,
    }
    return {f"{kind} {name}": value for name, value in figures.items()}
