"""The samples as rows of the app's tables."""

from pathlib import Path
from typing import Any

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sample_data import SampleEntity, draw_sample_data
from matching_pipeline.sample_data.people import SampleUser, sample_users
from matching_pipeline.sample_data.postings import POSTINGS

STUDIO_PROJECTS = ("gourd lamp, ochre shade", "striped mug, sky blue")
"""The products of which the demo has a pack of product pictures made."""


def insert_sample_data(connection: Connection, folder: Path) -> str:
    """Draws the pictures into the folder, inserts the rows that are not there yet, and says what there is and was."""
    sample = draw_sample_data(folder)
    users = sample_users()
    studio = [product for product in sample.products if product.name in STUDIO_PROJECTS]
    added = 0
    with connection.transaction():
        for kind, entities in (("project", sample.projects), ("product", sample.products)):
            added += sum(_insert_entity(connection, kind, entity) for entity in entities)
        added += sum(_insert_user(connection, user) for user in users)
        added += sum(_insert(connection, "posting", id=posting.id, **vars(posting)) for posting in POSTINGS)
        added += sum(_insert_studio_project(connection, product) for product in studio)
    faces = sum(len(user.faces) for user in users)
    images = sum(len(entity.pictures) for entity in [*sample.projects, *sample.products])
    rows = {
        **{"projects": len(sample.projects), "products": len(sample.products), "images": images},
        **{"users": len(users), "faces": faces, "postings": len(POSTINGS), "packs": len(studio)},
    }
    what = ", ".join(f"{count} {name}" for name, count in rows.items())
    if not added:
        return f"sample data, there already: {what}"
    if added == sum(rows.values()):
        return f"sample data inserted: {what}"
    return f"sample data: {what}; {added} of these rows were missing and are inserted"


def _insert(connection: Connection, what: str, **values: Any) -> int:
    """How many rows were not there yet: one or none."""
    return connection.execute(query(f"insert_sample_{what}"), values).rowcount


def _insert_entity(connection: Connection, kind: str, entity: SampleEntity) -> int:
    return _insert(connection, kind, id=entity.id) + sum(
        _insert(connection, f"{kind}_image", id=image_id, owner=entity.id, url=file.resolve().as_uri())
        for image_id, file in entity.pictures
    )


def _insert_studio_project(connection: Connection, product: SampleEntity) -> int:
    """A project for product pictures, whose pack is asked for as it is inserted."""
    return _insert(connection, "studio_project", id=product.id, url=product.pictures[0][1].resolve().as_uri())


def _insert_user(connection: Connection, user: SampleUser) -> int:
    return _insert(connection, "user", id=user.id, school=user.school, gender=user.gender) + sum(
        _insert(connection, "face", id=face_id, user_id=user.id, embedding=embedding)
        for face_id, embedding in user.faces
    )
