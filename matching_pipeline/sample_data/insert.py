"""The samples as rows of the app's tables."""

from pathlib import Path

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sample_data import SampleEntity, draw_sample_data
from matching_pipeline.sample_data.people import SampleUser, sample_users
from matching_pipeline.sample_data.postings import POSTINGS

STUDIO_PROJECTS = ("gourd lamp, ochre shade", "striped mug, sky blue")
"""The products of which the demo has a pack of product pictures made."""


def insert_sample_data(connection: Connection, folder: Path) -> str:
    """Draws the pictures into the folder, inserts the rows that are not there yet, and says what there is."""
    sample = draw_sample_data(folder)
    users = sample_users()
    studio = [product for product in sample.products if product.name in STUDIO_PROJECTS]
    with connection.transaction():
        for kind, entities in (("project", sample.projects), ("product", sample.products)):
            for entity in entities:
                _insert(connection, kind, entity)
        for user in users:
            _insert_user(connection, user)
        for posting in POSTINGS:
            connection.execute(query("insert_sample_posting"), {"id": posting.id, **vars(posting)})
        for product in studio:
            _insert_studio_project(connection, product)
    faces = sum(len(user.faces) for user in users)
    images = sum(len(entity.pictures) for entity in [*sample.projects, *sample.products])
    return (
        f"sample data: {len(sample.projects)} projects, {len(sample.products)} products, {images} images, "
        f"{len(users)} users, {faces} faces, {len(POSTINGS)} postings, {len(studio)} packs"
    )


def _insert(connection: Connection, kind: str, entity: SampleEntity) -> None:
    connection.execute(query(f"insert_sample_{kind}"), {"id": entity.id})
    for image_id, file in entity.pictures:
        connection.execute(
            query(f"insert_sample_{kind}_image"),
            {"id": image_id, "owner": entity.id, "url": file.resolve().as_uri()},
        )


def _insert_studio_project(connection: Connection, product: SampleEntity) -> None:
    """A project for product pictures, whose pack is asked for as it is inserted."""
    photo = product.pictures[0][1].resolve().as_uri()
    connection.execute(query("insert_sample_studio_project"), {"id": product.id, "url": photo})


def _insert_user(connection: Connection, user: SampleUser) -> None:
    connection.execute(query("insert_sample_user"), {"id": user.id, "school": user.school, "gender": user.gender})
    for face_id, embedding in user.faces:
        connection.execute(query("insert_sample_face"), {"id": face_id, "user_id": user.id, "embedding": embedding})
