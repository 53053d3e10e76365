"""Each night a second implementation computes some lists of matches, and they must be the same."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from matching_pipeline.components.checks import ReportedCheck
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.matches.parity import Parity, sampled_parity
from matching_pipeline.sources.declarations import Matches

SAMPLE = 20
"""Lists of each matcher: each is scored against everything, by plain code."""


def sampled_lists_are_exact(declared: Matches) -> ReportedCheck:
    """It reads all vectors once, so it runs only with a rebuild."""

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        # the sample changes once a day, so that a person who repeats the check sees the same lists
        seed = datetime.now(UTC).date().toordinal()
        with pipeline.connection() as connection:
            found = {matcher.name: sampled_parity(connection, matcher, SAMPLE, seed) for matcher in declared.matchers}
        verdicts = [parity.holds for parity in found.values()]
        return dg.AssetCheckResult(
            passed=False not in verdicts,
            description=_told(found),
            metadata={
                name: value for matcher, parity in found.items() for name, value in _figures(matcher, parity).items()
            },
        )

    return ReportedCheck(
        declared.name,
        "sampled_lists_are_exact",
        f"{SAMPLE} lists of each matcher, others each day, equal the definition's, computed without the kernel. "
        "It runs only with a rebuild.",
        evaluate,
    )


def _told(found: dict[str, Parity]) -> str:
    """Numbers only: an erasure of a face does not reach the copies that Dagster keeps."""
    return "; ".join(
        f"{parity.equal} of {parity.sampled} {matcher} lists are equal"
        + (f", the rest not judged: {parity.waiting} pieces of work wait" if parity.holds is None else "")
        for matcher, parity in found.items()
    )


def _figures(matcher: str, parity: Parity) -> dict[str, Any]:
    figures = {
        "lists sampled": parity.sampled,
        "lists equal": parity.equal,
        "lists not judged": parity.sampled - parity.equal if parity.holds is None else 0,
        "pairs missing": parity.missing,
        "pairs stale": parity.stale,
        "pairs surplus": parity.surplus,
        "work waiting": parity.waiting,
    }
    return {f"{matcher} {name}": value for name, value in figures.items()}
