"""The budget of a day (UTC): the most that a request may cost is reserved before it is sent (`ai_spending`)."""

import time
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.providers.session import ReconnectingSession

PATIENCE_SECONDS = 10.0
"""A request waits so long for other requests under way to give back what they have reserved."""
LOOK_AGAIN_SECONDS = 0.1
PAUSE = timedelta(minutes=1)
"""After this patience. A killed process gives nothing back in its day: its request may have been paid for."""


@dataclass(frozen=True)
class Reservation:
    """The day has it until the request has been recorded."""

    day: date
    most_usd: Decimal


class Budget:
    """Holds all processes together to AI_DAILY_BUDGET_USD. Without a budget it only counts. Threads may share it."""

    def __init__(self, session: ReconnectingSession, daily_usd: Decimal | None = None) -> None:
        self._session = session
        self._daily_usd = daily_usd

    def reserve(self, most_usd: Decimal) -> Reservation | None:
        """Raises ProviderUnavailable, until the next day in UTC, if the rest of the budget may not be enough."""
        if self._daily_usd is None:
            return None
        parameters = {"most": most_usd, "budget": self._daily_usd}
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            if rows := self._session.fetch(query("reserve_spending"), parameters):
                return Reservation(rows[0][0], most_usd)
            ((spent, seconds),) = self._session.fetch(query("spent_today"))
            if spent + most_usd > self._daily_usd:
                reason = f"of today's {self._daily_usd} USD {spent:.4f} are spent; a request may cost {most_usd:.4f}"
                raise ProviderUnavailable(
                    f"AI_DAILY_BUDGET_USD: {reason}: the work waits for the next day in UTC",
                    timedelta(seconds=max(seconds, 1)),
                )
            if time.monotonic() > until:
                raise ProviderUnavailable(
                    f"AI_DAILY_BUDGET_USD: requests under way may spend the rest of today's {self._daily_usd} USD",
                    PAUSE,
                )
            time.sleep(LOOK_AGAIN_SECONDS)

    def settle(self, connection: Connection, reservation: Reservation | None, cost_usd: Decimal) -> None:
        """Counts the cost in place of the reservation, in the caller's transaction."""
        if reservation is not None or cost_usd:
            parameters = {
                "day": reservation and reservation.day,
                "reserved": reservation.most_usd if reservation else Decimal(0),
                "cost": cost_usd,
            }
            connection.execute(query("settle_spending"), parameters)
