"""The budget of a day: no spending passes it, however many requests and processes there are at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.providers import budget as budgets
from matching_pipeline.providers.budget import Budget, Reservation
from matching_pipeline.providers.session import ReconnectingSession
from matching_pipeline_tests.fixtures.openai_server import OpenAIServer
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder

OpenBudget = Callable[[str], Budget]


@pytest.fixture
def open_budget(database_url: str, stack: ExitStack) -> OpenBudget:
    """As a process of its own has it."""
    return lambda daily: Budget(stack.enter_context(ReconnectingSession(database_url)), Decimal(daily))


def settle(connection: Connection, budget: Budget, reservation: Reservation | None, cost: str) -> None:
    budget.settle(connection, reservation, Decimal(cost))


def spending(connection: Connection) -> tuple[float, float]:
    ((spent, reserved),) = connection.execute(
        "select spent_usd, reserved_usd from matching_pipeline.ai_spending"
    ).fetchall()
    return float(spent), float(reserved)


def test_two_processes_together_do_not_pass_it(
    open_budget: OpenBudget, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "PATIENCE_SECONDS", 0.2)
    one, other = open_budget("1"), open_budget("1")
    reservation = one.reserve(Decimal("0.4"))
    other.reserve(Decimal("0.4"))
    with pytest.raises(ProviderUnavailable, match="AI_DAILY_BUDGET_USD: requests under way"):
        one.reserve(Decimal("0.4"))
    settle(connection, one, reservation, "0.1")
    assert spending(connection) == (0.1, 0.4)
    assert one.reserve(Decimal("0.4"))


def test_a_request_waits_for_those_under_way(open_budget: OpenBudget, connection: Connection) -> None:
    budget = open_budget("1")
    reservation = budget.reserve(Decimal("0.9"))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(budget.reserve, Decimal("0.5"))
        settle(connection, budget, reservation, "0.2")
        assert waiting.result(10)


def test_where_the_rest_is_not_enough_the_queue_waits_for_the_next_day(
    open_budget: OpenBudget, connection: Connection
) -> None:
    budget = open_budget("1")
    settle(connection, budget, None, "0.7")
    with pytest.raises(ProviderUnavailable, match=r"AI_DAILY_BUDGET_USD: of today.s 1 USD 0\.7000 are spent"):
        budget.reserve(Decimal("0.4"))
    connection.execute("update matching_pipeline.ai_spending set day = day - 1")
    assert budget.reserve(Decimal("0.4"))


def test_many_requests_at_once_stay_within_it(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    server.latency = 0.05
    changes = {"ai_daily_budget_usd": "0.00001", "openai_embedding_usd_per_million_tokens": 0.5}
    embedders = [open_embedder(**changes), open_embedder(**changes)]

    def embed(number: int) -> bool:
        try:
            embedders[number % 2].embed([f"posting number {number}"])
        except ProviderUnavailable:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        made = sum(threads.map(embed, range(24)))
    spent, reserved = spending(connection)
    assert made == server.asked.total() < 24
    assert 0 < spent <= 0.00001
    assert reserved == 0


def test_what_a_killed_process_has_reserved_counts_for_its_day(
    open_budget: OpenBudget, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "PATIENCE_SECONDS", 0)
    open_budget("1").reserve(Decimal("0.7"))
    with pytest.raises(ProviderUnavailable, match="AI_DAILY_BUDGET_USD"):
        open_budget("1").reserve(Decimal("0.4"))
