"""Each asset check fails when the data has the fault that it looks for."""

from uuid import UUID

import dagster as dg

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import registry
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.components.conftest import check
from matching_pipeline_tests.integration.marketplace import Marketplace

every_image_is_accounted_for = check("image_ai", "every_entity_is_accounted_for")
no_failed_images = check("image_ai", "no_failed_jobs")
every_posting_is_accounted_for = check("job_embeddings", "every_entity_is_accounted_for")
no_failed_postings = check("job_embeddings", "no_failed_jobs")
no_failed_shadow_postings = check("job_embeddings", "no_failed_shadow_jobs")
every_pair_holds = check("matches", "every_pair_holds")
no_failed_matches = check("matches", "no_failed_project_jobs")
no_failed_faces = check("matches", "no_failed_face_jobs")


def fail_everything(connection: Connection) -> None:
    connection.execute(
        "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'broken'"
    )


def test_an_image_without_a_row_or_a_reason_is_found(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    market.add_image("product", market.add("product"), (1, 0, 0))
    assert every_image_is_accounted_for.evaluate(pipeline).passed
    connection.execute("delete from matching_pipeline.embeddings")
    connection.execute("delete from matching_pipeline.jobs")
    result = every_image_is_accounted_for.evaluate(pipeline)
    assert not result.passed
    assert result.metadata["unaccounted"].value == 1


def test_an_image_that_failed_is_accounted_for_and_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    product = Marketplace(connection).add("product")
    connection.execute("insert into product_images (product_id, src) values (%s, 'file:///lost')", (product,))
    assert no_failed_images.evaluate(pipeline).passed
    fail_everything(connection)
    assert every_image_is_accounted_for.evaluate(pipeline).passed
    result = no_failed_images.evaluate(pipeline)
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "matching-pipeline retry image_ai --all" in (result.description or "")


def test_a_posting_without_an_embedding_or_a_reason_is_found(
    pipeline: Pipeline, connection: Connection, database_url: str
) -> None:
    connection.execute("insert into jobs (title, is_active) values ('Baker', true), ('Cook', false)")
    assert every_posting_is_accounted_for.evaluate(pipeline).passed
    registry.work_off(Settings(), database_url, EXAMPLES, "job_embeddings")
    assert every_posting_is_accounted_for.evaluate(pipeline).metadata["covered"].value == 1
    connection.execute("delete from matching_pipeline.embeddings")
    connection.execute("delete from matching_pipeline.jobs")
    result = every_posting_is_accounted_for.evaluate(pipeline)
    assert not result.passed
    assert result.metadata["unaccounted"].value == 1


def test_a_posting_that_failed_is_accounted_for_and_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    connection.execute("insert into jobs (title) values ('Baker')")
    assert no_failed_postings.evaluate(pipeline).passed
    fail_everything(connection)
    assert every_posting_is_accounted_for.evaluate(pipeline).passed
    result = no_failed_postings.evaluate(pipeline)
    assert not result.passed
    assert "matching-pipeline retry job_embeddings --all" in (result.description or "")


def test_a_pair_below_the_threshold_or_of_another_model_is_found(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    project, product = market.add("project"), market.add("product")
    images = market.add_image("project", project, (1, 0, 0)), market.add_image("product", product, (1, 0, 0))
    insert_pair(connection, project, product, images, 0.6)
    assert every_pair_holds.evaluate(pipeline).passed
    connection.execute("update matching_pipeline.match_settings set threshold = 0.7")
    assert not every_pair_holds.evaluate(pipeline).passed
    connection.execute("update matching_pipeline.match_settings set threshold = 0.5")
    connection.execute("update matching_pipeline.embedding_models set status = 'retired'")
    assert not every_pair_holds.evaluate(pipeline).passed


def test_a_failed_job_of_the_matches_queue_is_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    market.add_image("project", market.add("project"), (1, 0, 0))
    assert no_failed_matches.evaluate(pipeline).passed
    fail_everything(connection)
    assert not no_failed_matches.evaluate(pipeline).passed


def test_a_job_that_failed_with_the_shadow_is_warned_of_on_its_own(
    pipeline: Pipeline, connection: Connection
) -> None:
    connection.execute("insert into matching_pipeline.embedding_models values ('new', 'text', 3, 'shadow')")
    connection.execute("insert into jobs (title) values ('Baker')")
    connection.execute("delete from matching_pipeline.jobs where queue = 'job_embeddings'")
    fail_everything(connection)
    assert no_failed_postings.evaluate(pipeline).passed
    result = no_failed_shadow_postings.evaluate(pipeline)
    assert not result.passed
    assert "matching-pipeline retry job_embeddings_shadow --all" in (result.description or "")


def test_of_faces_a_check_names_none(pipeline: Pipeline, connection: Connection) -> None:
    face = "6a1f0000-0000-4000-8000-000000000000"
    connection.execute(
        """insert into matching_pipeline.jobs (queue, source, key, status, completed_at, error_message)
        values ('matches_face', 'face', %s, 'failed', now(), 'broken')""",
        (face,),
    )
    result = no_failed_faces.evaluate(pipeline)
    assert not result.passed
    assert face not in repr(result)
    assert "broken" in repr(result)


def insert_pair(
    connection: Connection, project: UUID, product: UUID, images: tuple[UUID, UUID], similarity: float
) -> None:
    connection.execute(
        """insert into matching_pipeline.matches
            (matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model)
        values ('project', %s, %s, %s, %s, %s, %s, %s, 1, 'given')""",
        (project, product, str(project), str(product), *images, similarity),
    )
