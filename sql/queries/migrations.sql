-- name: lock_migrations
select pg_advisory_xact_lock(hashtext('matching_pipeline.migrate'))

-- name: create_schema
create schema if not exists matching_pipeline;
create table if not exists matching_pipeline.migrations (
    name text constraint migrations_pkey primary key,
    applied_at timestamptz not null default now()
);
alter table matching_pipeline.migrations enable row level security

-- name: create_vector_extension
do $$
begin
    if not exists (select from pg_extension where extname = 'vector') then
        execute format('create extension vector schema %I', coalesce(to_regnamespace('extensions')::text, 'public'));
    end if;
end
$$

-- name: has_vector_extension
select exists (select from pg_extension where extname = 'vector')

-- name: has_migrations_table
select to_regclass('matching_pipeline.migrations') is not null

-- name: applied_migrations
select name from matching_pipeline.migrations

-- name: record_migration
insert into matching_pipeline.migrations (name) values (%(name)s)

-- name: search_our_schema
-- for the rest of the transaction; pgvector's schema comes second, once it is there
select set_config('search_path', concat_ws(', ', 'matching_pipeline', (
    select quote_ident(nspname) from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'
), 'pg_temp'), true)

-- name: create_dagster_schema
create schema if not exists dagster
