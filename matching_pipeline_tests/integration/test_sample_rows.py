"""What the demo says of its rows, the first time and afterwards."""

from matching_pipeline.db.connections import Connection
from matching_pipeline.sample_data.insert import insert_sample_data


def test_sample_rows_are_said_to_be_inserted_only_where_they_were(connection: Connection) -> None:
    what = "12 projects, 24 products, 54 images, 68 users, 102 faces, 12 postings, 2 packs"
    assert insert_sample_data(connection) == f"sample data inserted: {what}"
    assert insert_sample_data(connection) == f"sample data, there already: {what}"
    connection.execute("delete from jobs")
    missing = f"sample data: {what}; 12 of these rows were missing and are inserted"
    assert insert_sample_data(connection) == missing
