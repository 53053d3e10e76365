-- name: applied_migrations
select name from matching_pipeline_migrations

-- name: has_migrations_table
select to_regclass('matching_pipeline_migrations') is not null

-- name: lock_migrations
select pg_advisory_xact_lock(hashtext('matching_pipeline.migrate'))

-- name: create_dagster_schema
create schema if not exists dagster
