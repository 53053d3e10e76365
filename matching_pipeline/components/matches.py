"""The asset of all matches: the best entities of the right source for each of the left, by each matcher."""

import inspect
from typing import Any

import dagster as dg

from matching_pipeline.components.checks import ReportedCheck, no_failed_jobs
from matching_pipeline.components.describe_matches import describe_matches, is_shown
from matching_pipeline.components.rebuild_steps import plan, rebuild_shard, report
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sources import content_table, parent_tables
from matching_pipeline.db.queries import query
from matching_pipeline.sources.declarations import PUBLISHING, Declarations, ImageEmbeddings, Matches, TextEmbeddings
from matching_pipeline.sources.matcher import Matcher
from matching_pipeline.sources.publications import publication_states

# with the offset today is a partition: the table holds what is true now, and today's partition keeps today's figures
daily = dg.DailyPartitionsDefinition(start_date="2026-11-01", end_offset=1)


def matches_asset(declared: Matches, declarations: Declarations) -> dg.AssetsDefinition:
    ins = {
        f"upstream_{number}": dg.AssetIn(key, dagster_type=dg.Nothing)
        for number, key in enumerate(_upstream(declared, declarations), start=1)
    }

    def rebuild(**upstream: Any) -> Any:
        planned = plan.alias("plan")(upstream=list(upstream.values()))
        shards = planned.map(lambda each: rebuild_shard.alias("rebuild_shard")(planned=each))
        return report.alias("report")(shards=shards.collect())

    # Dagster reads the names of the inputs there, and they depend on the declaration
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ins]
    rebuild.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    pairs = "; ".join(f"{matcher.right} for each {matcher.left}" for matcher in declared.matchers)
    return dg.graph_asset(
        name=declared.name,
        ins=ins,
        group_name="matching",
        owners=declared.owners,
        kinds={"postgres", "numpy"},
        partitions_def=daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=f"The best {pairs}. The table holds what is true now; a day's partition keeps the day's figures, "
        "so a backfill of many days is one rebuild, and a day without figures lacks nothing. To rebuild, materialize "
        "the partition *Latest*.",
    )(rebuild)


def _upstream(declared: Matches, declarations: Declarations) -> list[dg.AssetKey]:
    """The assets of the embeddings that are matched, and the tables of vectors that the app made."""
    names = {name for matcher in declared.matchers for name in (matcher.left, matcher.right)}
    embeddings: list[ImageEmbeddings | TextEmbeddings] = [*declarations.images, *declarations.texts]
    keys = [dg.AssetKey(each.name) for each in embeddings if names.intersection(each.sources)]
    for source in declarations.sources:
        if source.name in names and source.vector:
            keys += [content_table(source), *parent_tables(source)]
    return list(dict.fromkeys(keys))


def matches_report(declared: Matches, declarations: Declarations) -> AssetReport:
    first_publishing = next(
        (each for each in declarations.matches if any(matcher.publish for matcher in each.matchers)), None
    )
    return AssetReport(
        declared.name,
        detects={
            **{
                matcher.queue: f"entities of {_sources(matcher)} whose matches may have changed"
                for matcher in declared.matchers
            },
            # one asset only has the sensor of the queue that all share
            **({PUBLISHING: "pairs that a table of the app lacks"} if declared is first_publishing else {}),
        },
        describe=lambda pipeline: describe_matches(pipeline, declared),
        table="matching_pipeline.matches",
        checks=(
            _every_pair_holds(declared),
            *(_is_published(declared, matcher) for matcher in declared.matchers if matcher.publish),
            *(
                no_failed_jobs(
                    declared.name,
                    matcher.queue,
                    f"no_failed_{matcher.name}_jobs",
                    f"No entity of {_sources(matcher)} has failed to be matched for good.",
                    anonymous=not is_shown(matcher, declarations),
                )
                for matcher in declared.matchers
            ),
        ),
        partition=daily.get_last_partition_key,
    )


def _sources(matcher: Matcher) -> str:
    return " and ".join(dict.fromkeys((matcher.left, matcher.right)))


def _is_published(declared: Matches, matcher: Matcher) -> ReportedCheck:
    """Checks that the app's table has each pair of the matcher, or that a worker writes it soon."""

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            state = next((each for each in publication_states(connection) if each.matcher == matcher.name), None)
        if state is None:
            return dg.AssetCheckResult(passed=False, description="it is not attached: run `matching-pipeline attach`")
        return dg.AssetCheckResult(
            passed=not state.problems,
            metadata={"table": state.table, "pairs that wait": state.unpublished},
            description="; ".join(state.problems) or str(state),
        )

    described = f"The pairs of the matcher {matcher.name} are in the app's own table."
    return ReportedCheck(declared.name, f"{matcher.name}_is_published", described, evaluate)


def _every_pair_holds(declared: Matches) -> ReportedCheck:
    matchers = [matcher.name for matcher in declared.matchers]

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            pairs = connection.execute(query("pairs_that_do_not_hold"), {"matchers": matchers})
            below, other_model = pairs.fetchone() or (0, 0)
        return dg.AssetCheckResult(
            passed=not below and not other_model, metadata={"below threshold": below, "other model": other_model}
        )

    return ReportedCheck(
        declared.name,
        "every_pair_holds",
        "No pair is below the threshold or was made by another than the active model.",
        evaluate,
    )
