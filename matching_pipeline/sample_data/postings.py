"""Job postings for the demo, in three trades: the nearest to each posting is of its own trade."""

import uuid
from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = uuid.UUID("b7a0f1d2-2c46-4a58-8f60-0d5a9f3f7c11")


@dataclass(frozen=True)
class SamplePosting:
    title: str
    company: str
    description: str

    @property
    def id(self) -> uuid.UUID:
        """It stays the same from run to run."""
        return uuid.uuid5(NAMESPACE, f"{self.title}/{self.company}")


POSTINGS: Final = [
    SamplePosting(
        "Baker, night shift",
        "Corner Loaf",
        "You mix and shape sourdough, mind the deck oven and have bread on the shelf by six in the morning.",
    ),
    SamplePosting(
        "Pastry baker",
        "Harbour Patisserie",
        "Laminated dough, tarts and seasonal cakes. You bake in a small team and start early in the morning.",
    ),
    SamplePosting(
        "Head baker",
        "Mill Street Bread",
        "You lead four bakers, plan the dough for each day, order flour and keep the oven and the bakery in order.",
    ),
    SamplePosting(
        "Apprentice in the bakery",
        "Corner Loaf",
        "Learn to mix dough, shape bread and work the oven. We teach, you turn up early in the morning.",
    ),
    SamplePosting(
        "Database engineer",
        "Ledgerline",
        "You look after our Postgres: schema changes, slow queries, backups that restore, and the on-call software.",
    ),
    SamplePosting(
        "Backend developer, Python",
        "Parcelwise",
        "Build services in Python over Postgres, write tests, review code and keep slow queries out of production.",
    ),
    SamplePosting(
        "Data engineer",
        "Ledgerline",
        "Pipelines in Python that load, check and publish data from Postgres; tested code, software that recovers.",
    ),
    SamplePosting(
        "Site reliability engineer",
        "Parcelwise",
        "Keep our software running: deployments, alerts, backups, capacity, and code that makes an incident boring.",
    ),
    SamplePosting(
        "Nurse, children's ward",
        "Lakeside Hospital",
        "Care for children and their families on a ward of ten beds, with doctors and therapists, in three shifts.",
    ),
    SamplePosting(
        "Intensive care nurse",
        "Lakeside Hospital",
        "You care for two patients a shift, watch monitors and ventilators and work hand in hand with the doctors.",
    ),
    SamplePosting(
        "Community nurse",
        "Homeward Care",
        "Visit patients at home, change dressings, give medication, and agree the care with families and doctors.",
    ),
    SamplePosting(
        "Ward manager",
        "Homeward Care",
        "Lead the nurses of a ward, plan shifts, care for quality and be there for patients and their families.",
    ),
]
