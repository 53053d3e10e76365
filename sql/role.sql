-- A role for the pipeline with only the rights it needs. Run by the tables' owner after `matching-pipeline migrate`, and
-- again after each upgrade; then let it log in:
--   alter role matching_pipeline login password '…';
-- Who migrates stays the owner: this role creates, alters and drops nothing of the app's or the pipeline's.

do $$
declare
    name text;
    right_to text;
begin
    if to_regrole('matching_pipeline') is null then
        create role matching_pipeline;
    end if;
    execute format('grant usage on schema %I to matching_pipeline', current_schema());

    -- the pipeline's own tables, whose row-level security lets nobody else in
    for name, right_to in values
        ('job_queue', 'select, insert, update, delete'), ('image_ai', 'select, insert, update, delete'),
        ('matches', 'select, insert, update, delete'), ('embedding_models', 'select, insert'),
        ('job_embeddings', 'select, insert, update, delete'),
        ('generated_images', 'select, insert, update, delete'), ('image_types', 'select'),
        ('match_settings', 'select'), ('matching_pipeline_migrations', 'select')
    loop
        execute format('grant %s on %I to matching_pipeline', right_to, name);
        if not exists (select from pg_policy where polrelid = to_regclass(name) and polname = 'matching_pipeline_works') then
            execute format('create policy matching_pipeline_works on %I to matching_pipeline using (true) with check (true)', name);
        end if;
    end loop;
    grant select on source_images, image_owners, matchable_faces, match_jobs, source_postings, embedded_postings, embedding_queue,
        asked_images, project_progress to matching_pipeline;
    grant execute on function take_drain_slot(text, integer) to matching_pipeline;

    -- the app's tables: it reads them, and locks a row while it writes what was derived from it, for which Postgres
    -- asks the right to update one column
    foreach name in array array['listings', 'listing_images', 'products', 'product_images', 'profiles', 'faces', 'jobs', 'projects'] loop
        execute format('grant select, update (id) on %I to matching_pipeline', name);
        if (select relrowsecurity from pg_class where oid = to_regclass(name))
           and not exists (select from pg_policy where polrelid = to_regclass(name) and polname = 'matching_pipeline_reads')
        then
            execute format('create policy matching_pipeline_reads on %I for select to matching_pipeline using (true)', name);
            execute format('create policy matching_pipeline_locks on %I for update to matching_pipeline using (true) with check (false)', name);
        end if;
    end loop;

    -- Dagster's own tables
    grant usage on schema dagster to matching_pipeline;
    grant all on all tables in schema dagster to matching_pipeline;
    grant all on all sequences in schema dagster to matching_pipeline;
end
$$;
