"""Settings that follow from others."""

import pytest

from matching_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("database_url", "folder"),
    [
        ("postgresql://user:secret@db.example.com:5432/shop", "db.example.com_shop"),
        ("host=db.example.com user=user password=secret dbname=shop", "db.example.com_shop"),
        ("postgresql://user@db.example.com/staging", "db.example.com_staging"),
        ("postgresql://postgres:@/postgres?host=/home/user/.data/postgres", "postgres"),
        (None, "postgres"),
    ],
)
def test_each_database_has_a_place_of_its_own_for_pictures(database_url: str | None, folder: str) -> None:
    url = Settings(database_url=database_url).pictures_url
    assert url.endswith(f"/generated_pictures/{folder}")


def test_pictures_go_where_they_are_told_to() -> None:
    settings = Settings(database_url="postgresql://db.example.com/shop", generated_images_url="s3://bucket/prefix")
    assert settings.pictures_url == "s3://bucket/prefix"
