-- A role for the pipeline with only the rights it needs. The owner of the schema `matching_pipeline` runs this file after
-- `matching-pipeline migrate`, and again after each upgrade. Then the owner lets the role log in:
--   alter role matching_pipeline login password '...';
--
-- The role writes what the pipeline derives, and has no right on a table of the app: it reads the declared rows through functions that run with the
-- owner's rights. The role that migrates and attaches stays the owner: this role creates, alters and drops nothing.

do $$
declare
    name text;
    right_to text;
    vector_schema regnamespace := (select extnamespace from pg_extension where extname = 'vector');
begin
    if to_regrole('matching_pipeline') is null then
        create role matching_pipeline;
    end if;
    if not has_database_privilege('matching_pipeline', current_database(), 'connect') then
        execute format('grant connect on database %I to matching_pipeline', current_database());
    end if;
    grant usage on schema matching_pipeline to matching_pipeline;
    -- on Supabase pgvector has a schema that only its own roles search
    if not has_schema_privilege('matching_pipeline', vector_schema::oid, 'usage') then
        execute format('grant usage on schema %s to matching_pipeline', vector_schema);
    end if;

    -- the pipeline's own tables, whose row-level security admits no other role
    for name, right_to in
        select relname, 'select, insert, update, delete' from pg_class
        where relnamespace = 'matching_pipeline'::regnamespace and relkind = 'r' and starts_with(relname, 'derived_')
        union all
        values
        ('queues', 'select'), ('sources', 'select, update (compared_at)'), ('matchers', 'select'), ('match_settings', 'select'),
        ('image_types', 'select'), ('migrations', 'select'), ('publications', 'select, update (compared_at)'),
        ('unpublished_pairs', 'select, insert, update, delete'),
        ('pauses', 'select, insert, update, delete'), ('jobs', 'select, insert, update, delete'), ('workers', 'select, insert, update, delete'),
        ('entities', 'select, insert, update, delete'), ('items', 'select, insert, update, delete'),
        ('entity_changes', 'select, insert, delete'),
        ('embeddings', 'select, insert, update, delete'), ('embedding_models', 'select, insert, update (status, dimensions)'),
        ('matches', 'select, insert, update, delete'), ('generated_images', 'select, insert, update, delete'),
        ('model_probes', 'select, insert, update, delete'), ('match_labels', 'select, insert, update, delete'),
        ('rebuilds', 'select, insert, delete'), ('rebuild_shards', 'select, insert, update, delete'),
        ('ai_calls', 'select, insert, delete'), ('ai_answers', 'select, insert, delete'),
        ('ai_cache_hits', 'select, insert, update'), ('ai_asking', 'select, insert, update, delete'), ('ai_spending', 'select, insert, update')
    loop
        execute format('grant %s on matching_pipeline.%I to matching_pipeline', right_to, name);
        if not exists (
            select from pg_policy where polrelid = format('matching_pipeline.%I', name)::regclass and polname = 'matching_pipeline_works'
        ) then
            execute format('create policy matching_pipeline_works on matching_pipeline.%I to matching_pipeline using (true) with check (true)', name);
        end if;
    end loop;
    grant select on matching_pipeline.embedded_items to matching_pipeline;
    for name in
        select pg_proc.oid::regprocedure from pg_proc
        where pronamespace = 'matching_pipeline'::regnamespace and prorettype <> 'trigger'::regtype
          -- functions that run with their owner's rights: only those named here
          and (not prosecdef or proname in (
              'read_source', 'children_of', 'source_keys', 'excepted_values', 'paused_until', 'request_pictures', 'enqueue_entity', 'find_similar', 'find_similar_images',
              'resume_publication', 'publish_range', 'publish_pairs', 'set_kept_status'
          ))
          and proname not in ('attach_source', 'attach_derived', 'attach_publication', 'detach_source', 'detach_queue', 'make_exception_triggers')
    loop
        execute format('grant execute on function %s to matching_pipeline', name);
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
