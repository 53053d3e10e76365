"""The steps of a rebuild of `matches`: a plan, then its shards, wherever the run's executor places them.

They hand each other nothing: a shard's mapping key, such as `project_12_3`, names its row in `rebuild_shards`.
"""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.errors import ConfigurationError, RebuildSuperseded
from matching_pipeline.matches import faces, projects, rebuilds
from matching_pipeline.matches.rebuilds import Done, Publish


@dg.op(
    ins={name: dg.In(dg.Nothing) for name in ("image_ai", "faces", "profiles")},
    out=dg.DynamicOut(dg.Nothing),
    description="Begins a rebuild and divides it into shards.",
)
def plan(context: dg.OpExecutionContext, pipeline: Pipeline) -> Iterator[dg.DynamicOutput[None]]:
    with pipeline.connection() as connection:
        for kind in rebuilds.SIZES:
            for shard in rebuilds.begin(connection, kind, first_run(context)):
                yield dg.DynamicOutput(None, mapping_key=f"{kind}_{shard.rebuild}_{shard.place}")


@dg.op(
    ins={"planned": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    retry_policy=dg.RetryPolicy(max_retries=3, delay=3, backoff=dg.Backoff.EXPONENTIAL),
    description="Recomputes the lists of one shard and writes the difference.",
)
def rebuild_shard(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    key = context.get_mapping_key()
    assert key is not None
    kind, rebuild, place = key.split("_")
    try:
        with pipeline.connection() as connection:
            shard = rebuilds.shard_at(connection, int(rebuild), int(place))
            figures = rebuilds.run(connection, shard, _publish(pipeline, kind))
    except (RebuildSuperseded, ConfigurationError) as reason:
        raise dg.Failure(str(reason), allow_retries=False) from None
    context.log.info(", ".join(f"{count} {name}" for name, count in vars(figures).items()))


def _publish(pipeline: Pipeline, kind: str) -> Publish:
    if kind == faces.KIND:
        return faces.rebuild_shard
    return partial(projects.rebuild_shard, part_images=pipeline.settings.match_part_images)


def done_by(context: dg.OpExecutionContext, pipeline: Pipeline) -> Done:
    """What the shards of the context's run did, and those of the runs that it is a re-execution of."""
    with pipeline.connection() as connection:
        return rebuilds.done_by(connection, first_run(context))


def first_run(context: dg.OpExecutionContext) -> str:
    """Of several runs of which each re-executes what failed in the one before; they share one rebuild."""
    return context.run.root_run_id or context.run_id
