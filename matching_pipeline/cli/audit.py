"""`matching-pipeline audit`: finds faults in the derived data, and corrects them."""

import sys

import click

from matching_pipeline.cli.console import faults_tables, say
from matching_pipeline.cli.opening import connected


@click.command("audit")
@click.option("--repair", is_flag=True, help="Set right what is found, and look again.")
def audit_command(repair: bool) -> None:
    """List the derived data that is missing, stale, orphaned or of mixed models; status 1 if there is any.

    It recomputes everything as of one instant: the mirror, the embeddings and the matches, with keys. It writes
    nothing without --repair. With it, workers compare the tables that differ with the mirror, jobs are queued for
    what is missing, the lists are rebuilt, and it looks again.
    """
    from matching_pipeline.matches import audit

    with connected() as (settings, connection, declarations):
        report = audit.audit(connection, declarations, settings.match_part_images)
        if repair and report.faults:
            faults_tables(report.faults)
            for done in audit.repair(connection, declarations, report, settings.match_part_images):
                say(done)
            say("looking again …")
            report = audit.audit(connection, declarations, settings.match_part_images)
    faults_tables(report.faults)
    if report.waiting:
        waits = ", ".join(f"{count} in {queue}" for queue, count in report.waiting.items())
        say(f"work waits in the queue, which may explain what differs: {waits}")
    if report.faults:
        sys.exit(1)
    say("all derived data is correct; `matching-pipeline status` shows the jobs that failed for good")
