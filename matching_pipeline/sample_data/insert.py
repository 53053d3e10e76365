"""The samples as rows of the app's tables."""

from pathlib import Path

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sample_data import SampleEntity, draw_sample_data
from matching_pipeline.sample_data.people import SampleUser, sample_users
from matching_pipeline.sample_data.postings import POSTINGS


def insert_sample_data(connection: Connection, folder: Path) -> str:
    """Draws the pictures into the folder, inserts the rows that are not there yet, and says what there is."""
    sample = draw_sample_data(folder)
    users = sample_users()
    with connection.transaction():
        for kind, entities in (("project", sample.projects), ("product", sample.products)):
            for entity in entities:
                _insert(connection, kind, entity)
        for user in users:
            _insert_user(connection, user)
        for posting in POSTINGS:
            connection.execute(query("insert_sample_posting"), {"id": posting.id, **vars(posting)})
    faces = sum(len(user.faces) for user in users)
    images = sum(len(entity.pictures) for entity in [*sample.projects, *sample.products])
    return (
        f"sample data: {len(sample.projects)} projects, {len(sample.products)} products, {images} images, "
        f"{len(users)} users, {faces} faces, {len(POSTINGS)} postings"
    )


def _insert(connection: Connection, kind: str, entity: SampleEntity) -> None:
    connection.execute(query(f"insert_sample_{kind}"), {"id": entity.id})
    for image_id, file in entity.pictures:
        connection.execute(
            query(f"insert_sample_{kind}_image"),
            {"id": image_id, "owner": entity.id, "url": file.resolve().as_uri()},
        )


def _insert_user(connection: Connection, user: SampleUser) -> None:
    connection.execute(query("insert_sample_user"), {"id": user.id, "school": user.school, "gender": user.gender})
    for face_id, embedding in user.faces:
        connection.execute(query("insert_sample_face"), {"id": face_id, "user_id": user.id, "embedding": embedding})
