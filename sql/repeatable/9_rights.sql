-- The rights of roles. Row-level security closes every table of ours: a signed-in user of the app sees the jobs and matches of
-- their own entities and changes nothing. The pipeline's own role is made by sql/role.sql. Further grants of the owner's stay.

do $$
declare
    object text;
    outsider text;
    vector_schema regnamespace := (select extnamespace from pg_extension where extname = 'vector');
begin
    if not exists (select from pg_policy where polrelid = 'jobs'::regclass and polname = 'jobs_of_own_entities') then
        -- the array is computed once in a query, and an index finds it
        create policy jobs_of_own_entities on jobs for select using (
            -- for the other kinds the key names no entity
            kind not in ('item', 'parent', 'table', 'excepted')
            and key = any (array(select key from own_entities())) and (source, key) in (select source, key from own_entities())
        );
    end if;
    if not exists (select from pg_policy where polrelid = 'matches'::regclass and polname = 'matches_of_own_entities') then
        create policy matches_of_own_entities on matches for select using (
            (left_id = any (array(select id from own_sides() where is_left))
                and (matcher, left_id) in (select matcher, id from own_sides() where is_left))
            or (right_id = any (array(select id from own_sides() where not is_left))
                and (matcher, right_id) in (select matcher, id from own_sides() where not is_left))
        );
    end if;
    if not exists (select from pg_policy where polrelid = 'queues'::regclass and polname = 'queues_of_everybody') then
        create policy queues_of_everybody on queues for select using (true);
    end if;

    -- Postgres lets everybody execute a new function
    revoke execute on all functions in schema matching_pipeline from public;
    foreach outsider in array array['public', 'anon', 'authenticated'] loop
        if (outsider = 'public' or to_regrole(outsider) is not null) and has_schema_privilege(outsider, vector_schema::oid, 'create') then
            raise warning 'a role that may create functions in the schema %, which has pgvector, can make our functions call them with the rights of '
                'their owner: revoke create on schema % from %', vector_schema, vector_schema, outsider;
        end if;
    end loop;

    if to_regrole('authenticated') is not null then
        grant usage on schema matching_pipeline to authenticated;
        grant select on jobs, matches, queues to authenticated;
        -- the policies and the exposed views call these with the reader's rights
        grant execute on function signed_in_user(), own_entities(), own_sides(), own_row(text, text), shown_row(text, text),
            key_id(text), queue_status(text), paused_until(text) to authenticated;
    end if;
    if to_regrole('service_role') is not null then
        grant usage on schema matching_pipeline to service_role;
        grant select on matches, items, embeddings, image_types, queues, sources to service_role;
        -- for external workers (jobs and pictures), and for the app's labels of pairs
        grant select, insert, update, delete on jobs, pauses, generated_images, match_labels to service_role;
        for object in
            select pg_proc.oid::regprocedure from pg_proc
            where pronamespace = 'matching_pipeline'::regnamespace and prorettype <> 'trigger'::regtype
              -- functions that run with their owner's rights: only those named here
              and (not prosecdef or proname in ('read_source', 'paused_until', 'request_pictures', 'enqueue_entity', 'find_similar', 'find_similar_images'))
              and proname not in ('attach_source', 'attach_derived', 'detach_source', 'detach_queue', 'make_trigger_function', 'make_triggers', 'drop_triggers', 'make_exception_triggers')
        loop
            execute format('grant execute on function %s to service_role', object);
        end loop;
    end if;
end
$$;
