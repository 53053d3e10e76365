"""Each asset check fails when the data has the fault that it looks for."""

from uuid import UUID

import dagster as dg

from matching_pipeline.components.image_ai import every_image_is_accounted_for, no_failed_images
from matching_pipeline.components.job_embeddings import (
    every_posting_is_accounted_for,
    no_failed_postings,
    no_failed_shadow_postings,
)
from matching_pipeline.components.matches import every_pair_holds, no_failed_matches
from matching_pipeline.components.reporting import ReportedCheck
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.integration.marketplace import Marketplace


def evaluate(check: ReportedCheck, pipeline: Pipeline) -> dg.AssetCheckResult:
    return check.evaluate(pipeline)


def fail_everything(connection: Connection) -> None:
    connection.execute("update job_queue set status = 'failed', completed_at = now(), error_message = 'broken'")


def test_an_image_without_a_row_or_a_reason_is_found(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    product = market.add("product")
    connection.execute("insert into product_images (product_id, src) values (%s, 'file:///lost')", (product,))
    assert evaluate(every_image_is_accounted_for, pipeline).passed
    connection.execute("delete from job_queue")
    result = evaluate(every_image_is_accounted_for, pipeline)
    assert not result.passed
    assert result.metadata["unaccounted"].value == 1


def test_an_image_that_failed_is_accounted_for_and_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    product = Marketplace(connection).add("product")
    connection.execute("insert into product_images (product_id, src) values (%s, 'file:///lost')", (product,))
    assert evaluate(no_failed_images, pipeline).passed
    fail_everything(connection)
    assert evaluate(every_image_is_accounted_for, pipeline).passed
    result = evaluate(no_failed_images, pipeline)
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "matching-pipeline retry image_ai --all" in (result.description or "")


def test_a_posting_without_an_embedding_or_a_reason_is_found(pipeline: Pipeline, connection: Connection) -> None:
    connection.execute("insert into jobs (title, is_active) values ('Baker', true), ('Cook', false)")
    assert evaluate(every_posting_is_accounted_for, pipeline).passed
    connection.execute("delete from job_queue")
    result = evaluate(every_posting_is_accounted_for, pipeline)
    assert not result.passed
    assert result.metadata["unaccounted"].value == 1


def test_a_posting_that_failed_is_accounted_for_and_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    connection.execute("insert into jobs (title) values ('Baker')")
    assert evaluate(no_failed_postings, pipeline).passed
    fail_everything(connection)
    assert evaluate(every_posting_is_accounted_for, pipeline).passed
    result = evaluate(no_failed_postings, pipeline)
    assert not result.passed
    assert "matching-pipeline retry job_embeddings --all" in (result.description or "")


def test_a_pair_below_the_threshold_or_of_another_model_is_found(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    project, product = market.add("project"), market.add("product")
    images = market.add_image("project", project, (1, 0, 0)), market.add_image("product", product, (1, 0, 0))
    insert_pair(connection, project, product, images, 0.6)
    assert evaluate(every_pair_holds, pipeline).passed
    connection.execute("update match_settings set threshold = 0.7")
    assert not evaluate(every_pair_holds, pipeline).passed
    connection.execute("update match_settings set threshold = 0.5")
    connection.execute("update embedding_models set status = 'retired'")
    assert not evaluate(every_pair_holds, pipeline).passed


def test_a_failed_job_of_the_matches_queue_is_warned_of(pipeline: Pipeline, connection: Connection) -> None:
    market = Marketplace(connection)
    market.add_image("project", market.add("project"), (1, 0, 0))
    assert evaluate(no_failed_matches, pipeline).passed
    fail_everything(connection)
    assert not evaluate(no_failed_matches, pipeline).passed


def test_a_job_that_failed_with_the_shadow_is_warned_of_on_its_own(
    pipeline: Pipeline, connection: Connection
) -> None:
    connection.execute("insert into embedding_models values ('new', 'text', 3, 'shadow')")
    connection.execute("insert into jobs (title) values ('Baker')")
    connection.execute("delete from job_queue where queue = 'job_embeddings'")
    fail_everything(connection)
    assert evaluate(no_failed_postings, pipeline).passed
    result = evaluate(no_failed_shadow_postings, pipeline)
    assert not result.passed
    assert "matching-pipeline retry job_embeddings_shadow --all" in (result.description or "")


def insert_pair(
    connection: Connection, project: UUID, product: UUID, images: tuple[UUID, UUID], similarity: float
) -> None:
    connection.execute(
        """insert into matches (kind, project_id, product_id, project_image_id, product_image_id, similarity, rank,
            model)
        values ('project', %s, %s, %s, %s, %s, 1, 'given')""",
        (project, product, *images, similarity),
    )
