-- A role for the pipeline with only the rights it needs. The tables' owner runs this file after `matching-pipeline
-- migrate`, and again after each upgrade. Then the owner lets the role log in:
--   alter role matching_pipeline login password '…';
--
-- The role that migrates stays the owner: this role creates, alters and drops nothing of the app's or the pipeline's.

do $$
declare
    name text;
    right_to text;
    vector_schema text := (select extnamespace::regnamespace::text from pg_extension where extname = 'vector');
begin
    if to_regrole('matching_pipeline') is null then
        create role matching_pipeline;
    end if;
    if not has_database_privilege('matching_pipeline', current_database(), 'connect') then
        execute format('grant connect on database %I to matching_pipeline', current_database());
    end if;
    execute format('grant usage on schema %I to matching_pipeline', current_schema());
    -- on Supabase pgvector has a schema that only its own roles search
    if not has_schema_privilege('matching_pipeline', vector_schema, 'usage') then
        execute format('grant usage on schema %s to matching_pipeline', vector_schema);
    end if;
    if current_schema() <> 'public' or vector_schema not in ('public', 'pg_catalog') then
        begin
            execute format('alter role matching_pipeline in database %I set search_path = %I, %s',
                current_database(), current_schema(), vector_schema);
        exception when insufficient_privilege then
            raise warning 'the search_path of matching_pipeline must be %, %: the creator of the role must set it', current_schema(), vector_schema;
        end;
    end if;

    -- the pipeline's own tables, whose row-level security admits no other role
    for name, right_to in values
        ('job_queue', 'select, insert, update, delete'), ('image_ai', 'select, insert, update, delete'),
        ('matches', 'select, insert, update, delete'), ('embedding_models', 'select, insert, update (status)'),
        ('job_embeddings', 'select, insert, update, delete'), ('ai_calls', 'select, insert, delete'),
        ('ai_answers', 'select, insert, delete'), ('ai_asking', 'select, insert, update, delete'),
        ('generated_images', 'select, insert, update, delete'), ('image_types', 'select'),
        ('rebuilds', 'select, insert, delete'), ('rebuild_shards', 'select, insert, update, delete'),
        ('workers', 'select, insert, update, delete'),
        ('match_settings', 'select'), ('matching_pipeline_migrations', 'select')
    loop
        execute format('grant %s on %I to matching_pipeline', right_to, name);
        if not exists (select from pg_policy where polrelid = to_regclass(name) and polname = 'matching_pipeline_works') then
            execute format('create policy matching_pipeline_works on %I to matching_pipeline using (true) with check (true)', name);
        end if;
    end loop;
    grant select on source_images, image_owners, matchable_faces, match_jobs, source_postings, embedded_postings, embedding_queue,
        asked_images, project_progress to matching_pipeline;
    grant execute on function take_worker_slot(text, integer) to matching_pipeline;

    -- The app's tables: it reads them, and locks a row while it writes what was derived from it, for which Postgres
    -- asks the right to update one column. The policies stand ready before the app turns row-level security on: a
    -- pipeline that sees no rows would take them for deleted.
    for name, right_to in values
        ('listings', 'select, update (id)'), ('listing_images', 'select, update (id)'),
        ('products', 'select, update (id)'), ('product_images', 'select, update (id)'),
        ('profiles', 'select'), ('faces', 'select, update (id)'), ('jobs', 'select, update (id)'),
        ('projects', 'select, update (id)')
    loop
        execute format('grant %s on %I to matching_pipeline', right_to, name);
        if not exists (select from pg_policy where polrelid = to_regclass(name) and polname = 'matching_pipeline_reads') then
            execute format('create policy matching_pipeline_reads on %I for select to matching_pipeline using (true)', name);
            execute format('create policy matching_pipeline_locks on %I for update to matching_pipeline using (true) with check (false)', name);
        end if;
    end loop;

    -- Dagster's own tables, also those that an upgrade adds
    if to_regnamespace('dagster') is not null then
        grant usage on schema dagster to matching_pipeline;
        grant select, insert, update, delete on all tables in schema dagster to matching_pipeline;
        grant usage, select on all sequences in schema dagster to matching_pipeline;
        alter default privileges in schema dagster grant select, insert, update, delete on tables to matching_pipeline;
        alter default privileges in schema dagster grant usage, select on sequences to matching_pipeline;
    end if;
end
$$;
