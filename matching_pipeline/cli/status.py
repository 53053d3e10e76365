"""`matching-pipeline status`: the state of each queue and each source, and what troubles there are."""

import json
from decimal import Decimal
from typing import Any

import click

from matching_pipeline.cli.console import coverage_table, failures_table, say_all, sources_table
from matching_pipeline.cli.doctor import unchosen_models
from matching_pipeline.cli.opening import connected
from matching_pipeline.cli.troubles import troubles
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.handlers import registry
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.queues import client
from matching_pipeline.sources.attached import differences, overruled, source_states
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.publications import publication_states


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status_command(as_json: bool) -> None:
    """Show the jobs of each queue that wait, are processed or failed, what is covered, and the state of each source.

    Further lines say why jobs wait, what fails, why entities have no matches, and what is slow.
    """
    with connected() as (settings, connection, declarations):
        state = queue_states(connection, declarations)
        found, sources = troubles(connection, state), source_states(connection)
        remarks = [*differences(connection, declarations), *overruled(connection, declarations)]
        remarks += unchosen_models(settings, connection)
        publications = publication_states(connection)
        remarks += [problem for each in publications for problem in each.problems]
    if as_json:
        told = {source.name: {**vars(source), "problems": source.problems} for source in sources}
        named = [trouble._asdict() for trouble in found]
        published = {each.matcher: {**vars(each), "problems": each.problems} for each in publications}
        every = {**state, "sources": told, "publications": published, "troubles": named}
        click.echo(json.dumps(every, indent=2, default=_as_json))
        return
    coverage_table(state)
    sources_table(sources)
    failures_table(state)
    for trouble in found:
        click.echo(trouble)
    say_all(remarks)


def queue_states(connection: Connection, declarations: Declarations) -> dict[str, dict[str, Any]]:
    return {
        queue: {
            **client.status(connection, queue),
            "coverage": named_rows(connection, "queue_coverage", queue=queue)[0],
            "cost_today": vars(queue_cost_today(connection, queue)),
            "newest_failures": named_rows(connection, "newest_failures", queue=queue, count=10),
        }
        for queue in registry.in_use(connection, declarations)
    }


def _as_json(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
