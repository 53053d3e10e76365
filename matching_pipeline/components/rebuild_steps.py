"""The steps of a rebuild of matches: a plan, then its shards, wherever the run's executor places them.

They hand each other nothing: a shard's mapping key, such as `project_12_3`, names its row in `rebuild_shards`. The
names of ops are those of no asset: Dagster has both in one namespace.
"""

from collections.abc import Iterator

import dagster as dg

from matching_pipeline.components.describe_matches import describe_matches
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.errors import ConfigurationError, RebuildSuperseded
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.matching import matching_of
from matching_pipeline.sources.declarations import Matches


@dg.op(
    name="plan_matches",
    ins={"upstream": dg.In(dg.Nothing)},
    out=dg.DynamicOut(dg.Nothing),
    description="Begins a rebuild of each matcher and divides it into shards.",
)
def plan(context: dg.OpExecutionContext, pipeline: Pipeline) -> Iterator[dg.DynamicOutput[None]]:
    with pipeline.connection() as connection:
        for matcher in _declared(context, pipeline).matchers:
            matching = matching_of(matcher, pipeline.settings.match_part_images)
            for shard in rebuilds.begin(connection, matcher.name, matching.plan, first_run(context)):
                yield dg.DynamicOutput(None, mapping_key=f"{matcher.name}_{shard.rebuild}_{shard.place}")


@dg.op(
    name="rebuild_matches",
    ins={"planned": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    retry_policy=dg.RetryPolicy(max_retries=3, delay=3, backoff=dg.Backoff.EXPONENTIAL),
    description="Recomputes the lists of one shard and writes the difference.",
)
def rebuild_shard(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    key = context.get_mapping_key()
    assert key is not None
    name, rebuild, place = key.rsplit("_", 2)
    matcher = next(each for each in pipeline.declarations.matchers if each.name == name)
    matching = matching_of(matcher, pipeline.settings.match_part_images)
    try:
        with pipeline.connection() as connection:
            shard = rebuilds.shard_at(connection, int(rebuild), int(place))
            figures = rebuilds.run(connection, shard, matching.rebuild_shard)
    except (RebuildSuperseded, ConfigurationError) as reason:
        raise dg.Failure(str(reason), allow_retries=False) from None
    context.log.info(", ".join(f"{count} {name}" for name, count in vars(figures).items()))


@dg.op(
    name="report_matches",
    ins={"shards": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    description="Tells what the shards of the rebuild did, for each matcher.",
)
def report(context: dg.OpExecutionContext, pipeline: Pipeline) -> dg.Output[None]:
    with pipeline.connection() as connection:
        done = rebuilds.done_by(connection, first_run(context))
    figures: dict[str, float] = {"shards": sum(each.shards for each in done.values())}
    figures["busy seconds"] = round(sum(each.seconds for each in done.values()), 3)
    for matcher, each in done.items():
        for name, count in vars(each.figures).items():
            figures[name] = figures.get(name, 0) + count
            figures[f"{matcher} {name}"] = count
    return dg.Output(None, metadata={**figures, **describe_matches(pipeline, _declared(context, pipeline))})


def first_run(context: dg.OpExecutionContext) -> str:
    """The first of several runs that each re-execute what failed in the run before. They share one rebuild."""
    return context.run.root_run_id or context.run_id


def _declared(context: dg.OpExecutionContext, pipeline: Pipeline) -> Matches:
    """The declaration of the asset that the step is a part of."""
    name = context.asset_key.to_user_string()
    return next(each for each in pipeline.declarations.matches if each.name == name)
