-- The rights of users and roles. A signed-in user of the app, as PostgREST and Supabase know them, sees the jobs and
-- matches of their own faces and changes nothing. The pipeline's own role is made by sql/role.sql.

-- The id in the request's JWT; null outside a request, and where it is no id.
create or replace function signed_in_user() returns uuid
language plpgsql stable as $$
begin
    return coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid;
exception when data_exception then
    return null;
end
$$;

-- With its owner's rights: whether the app lets its users read `faces` is the app's affair.
create or replace function signed_in_faces() returns setof uuid
language sql stable security definer set search_path = public, extensions, pg_temp as $$
    select id from faces where user_id = (select signed_in_user())
$$;

-- The views' triggers act with their owner's rights, past row-level security. Supabase's guides grant the API roles
-- everything in the schema: these roles must not get past row-level security by that grant.
create or replace function queue_view_guarded() returns trigger
language plpgsql as $$
begin
    if current_user in ('anon', 'authenticated') then
        raise exception 'permission denied for view %', tg_table_name using errcode = 'insufficient_privilege';
    end if;
    return coalesce(new, old);
end
$$;

-- before `matching_pipeline_write`, by the order of their names
create or replace trigger matching_pipeline_guard instead of insert or update or delete on match_jobs
    for each row execute function queue_view_guarded();
create or replace trigger matching_pipeline_guard instead of insert or update or delete on embedding_queue
    for each row execute function queue_view_guarded();

do $$
declare
    outsider text;
    name text;
    open_to text;
begin
    -- an array is made once a query, and found in an index
    if not exists (select from pg_policy where polrelid = 'job_queue'::regclass and polname = 'job_queue_of_own_faces') then
        create policy job_queue_of_own_faces on job_queue for select
            using (queue = 'faces' and entity_kind = 'face' and entity_id = any (array(select signed_in_faces())));
    end if;
    if not exists (select from pg_policy where polrelid = 'matches'::regclass and polname = 'matches_of_own_faces') then
        create policy matches_of_own_faces on matches for select
            using (face_a_id = any (array(select signed_in_faces())) or face_b_id = any (array(select signed_in_faces())));
    end if;

    -- Supabase gives every new table, view and function to its API roles
    foreach outsider in array array['public', 'anon', 'authenticated'] loop
        continue when outsider <> 'public' and to_regrole(outsider) is null;
        foreach name in array array[
            'job_queue', 'match_jobs', 'embedding_models', 'image_ai', 'match_settings', 'matches', 'matchable_faces',
            'image_owners', 'source_images', 'matching_pipeline_migrations', 'job_embeddings', 'embedding_queue',
            'source_postings', 'embedded_postings', 'ai_calls', 'ai_answers', 'ai_asking',
            'image_types', 'generated_images', 'asked_images', 'project_progress', 'rebuilds', 'rebuild_shards',
            'workers'
        ] loop
            execute format('revoke all on %I from %s', name, outsider);
        end loop;
        -- A role that may execute a trigger function could create a trigger with it on a table of its own, and delete
        -- rows with the function owner's rights. An existing trigger fires without this right. A session that holds a
        -- slot passes for a worker.
        for name in
            select tgfoid::regprocedure from pg_trigger
            join pg_proc on pg_proc.oid = tgfoid and pronamespace = current_schema()::regnamespace
            where tgname like any (array['matching\_pipeline\_%', 'trigger\_queue\_embedding\_%'])
            union
            select 'take_worker_slot(text, integer)'
        loop
            execute format('revoke execute on function %s from %s', name, outsider);
        end loop;
        if has_schema_privilege(outsider, current_schema(), 'create') then
            open_to := coalesce(open_to, outsider);
        end if;
    end loop;
    if open_to is not null then
        raise warning 'a role that may create functions in the schema % can make its triggers run them with the rights of their '
            'owner: revoke create on schema % from %', current_schema(), current_schema(), open_to;
    end if;

    if to_regrole('authenticated') is not null then
        grant select on job_queue, match_jobs, matches to authenticated;
        -- the view shows a job's user and embedding by the reader's rights
        grant execute on function signed_in_user(), signed_in_faces() to authenticated;
    end if;
    if to_regrole('service_role') is not null then
        grant select on matches, image_types, generated_images, asked_images, project_progress to service_role;
        -- to ask for product pictures, by function or by a row
        grant select, insert, update on job_queue to service_role;
        grant select, insert, update, delete on match_jobs, embedding_queue to service_role;
    end if;
end
$$;
