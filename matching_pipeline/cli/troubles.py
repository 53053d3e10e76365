"""What a person who sees no progress wants to know: why jobs wait, what fails, why nothing matches, what is slow."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import OVERDUE_SECONDS, worker_states

OLD_SECONDS = 60.0
"""A job that waits longer is named."""


class Trouble(NamedTuple):
    about: str
    """one of: jobs wait, errors, no matches, slow"""
    sentence: str

    def __str__(self) -> str:
        return f"{self.about}: {self.sentence}"


def troubles(connection: Connection, state: Mapping[str, Mapping[str, Any]]) -> list[Trouble]:
    """`state` is the status of each queue by its name."""
    found = [*_without_worker(connection, state)]
    for queue, figures in state.items():
        found += _of_queue(connection, queue, figures)
    busy = any(figures["due"] or figures["processing"] for figures in state.values())
    found += _without_matches(connection, list(state), busy=busy)
    return sorted(found, key=lambda each: ("jobs wait", "errors", "no matches", "slow").index(each.about))


def _without_worker(connection: Connection, state: Mapping[str, Mapping[str, Any]]) -> Iterator[Trouble]:
    workers = worker_states(connection)
    for worker in workers:
        for queue, error in worker.failures.items():
            yield Trouble("errors", f"{worker} failed in the queue {queue}: {error}")
    waiting = sum(figures["pending"] for figures in state.values())
    if not waiting or any(worker.alive for worker in workers) or client.workers_alive(connection):
        return
    if any(worker.is_starting for worker in workers):
        yield Trouble("jobs wait", "a worker is starting")
        return
    row = connection.execute(query("seconds_since_last_job")).fetchone()
    since = "no job was ever done" if row is None or row[0] is None else f"the last job was done {_age(row[0])} ago"
    yield Trouble(
        "jobs wait",
        f"no worker is alive, {since}: `matching-pipeline dev` starts one, and `worker_sensor` in Dagster's UI says "
        "why there is none",
    )


def _of_queue(connection: Connection, queue: str, figures: Mapping[str, Any]) -> Iterator[Trouble]:
    (told,) = named_rows(connection, "queue_troubles", queue=queue)
    oldest = figures["oldest_pending_seconds"] or 0
    if pause := client.queue_pause(connection, queue):
        yield Trouble("jobs wait", f"{queue} is {pause}; {figures['pending']} jobs are pending")
    elif figures["pending"] and told["refused_age"] is not None:
        since = _age(told["refused_age"])
        yield Trouble("jobs wait", f"the provider of {queue} has refused for {since}: {_line(told['refusal'])}")
    elif told["snoozed"]:
        yield Trouble(
            "jobs wait", f"{told['snoozed']} jobs of {queue} wait until {told['until']} UTC: {_line(told['reason'])}"
        )
    if oldest > OLD_SECONDS:
        yield Trouble("jobs wait", f"the oldest of {figures['pending']} pending jobs of {queue} waits {_age(oldest)}")
    if figures["failed"]:
        count = "1 dead letter" if figures["failed"] == 1 else f"{figures['failed']} dead letters"
        yield Trouble(
            "errors",
            f"{queue} has {count}, the newest of {_age(told['dead_letter_age'])} ago: {_line(told['dead_letter'])}; "
            f"`matching-pipeline retry {queue} --all` tries again",
        )
    if figures["due"] and oldest > OVERDUE_SECONDS and (rate := float(figures["completed_per_minute"])):
        yield Trouble(
            "slow",
            f"{queue} has {figures['due']} due jobs and did {rate:.1f} a minute: the last waits about "
            f"{_age(60 * figures['due'] / rate)}",
        )


def _without_matches(connection: Connection, queues: Sequence[str], *, busy: bool) -> Iterator[Trouble]:
    for row in named_rows(connection, "unmatchable_entities", queues=queues):
        matcher, source, property = row["matcher"], row["source"], row["property"]
        if row["without"]:
            yield Trouble(
                "no matches", f"{row['without']} entities of {source} have no {property}, which {matcher} compares"
            )
        if unknown := row["entities"] - (row["without"] or 0):
            values = ", ".join(f"'{value}'" for value in row["unknown"])
            yield Trouble(
                "no matches",
                f"{unknown} entities of {source} have a {property} that {matcher} does not know: {values}",
            )
    rows = named_rows(connection, "matchers_without_pairs", queues=queues)
    for matcher, group in groupby(rows, itemgetter("matcher")):
        sides = list(group)
        lacking = [side["source"] for side in sides if not side["has_matchable"]]
        if not any(side["has_entities"] for side in sides):
            continue  # nothing is there yet
        if lacking:
            yield Trouble("no matches", f"{matcher} has no entity of {' or '.join(lacking)} that it can compare")
        elif not busy:
            yield Trouble("no matches", f"no pair of {matcher} reaches its threshold {sides[0]['threshold']}")


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _line(message: str) -> str:
    return " ".join(message.split())
