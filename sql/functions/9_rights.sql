-- Who may see and do what. A signed-in user of the app, as PostgREST and Supabase know them, sees the jobs and matches of
-- their own faces and changes nothing. The pipeline's own role is made by sql/role.sql.

-- The id in the request's JWT; null outside a request.
create or replace function signed_in_user() returns uuid
language sql stable as $$
    select sub::uuid
    from coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    ) as sub
    where sub ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
$$;

-- With its owner's rights: whether the app lets its users read `faces` is the app's affair.
create or replace function signed_in_faces() returns setof uuid
language sql stable security definer set search_path = public, extensions, pg_temp as $$
    select id from faces where user_id = signed_in_user()
$$;

do $$
declare
    outsider text;
    name text;
begin
    if not exists (select from pg_policy where polrelid = 'job_queue'::regclass and polname = 'job_queue_of_own_faces') then
        create policy job_queue_of_own_faces on job_queue for select
            using (queue = 'faces' and entity_id in (select signed_in_faces()));
        create policy matches_of_own_faces on matches for select
            using (kind = 'face' and (face_a_id in (select signed_in_faces()) or face_b_id in (select signed_in_faces())));
    end if;

    -- Supabase gives every new table, view and function to its API roles
    foreach outsider in array array['public', 'anon', 'authenticated'] loop
        continue when outsider <> 'public' and to_regrole(outsider) is null;
        foreach name in array array[
            'job_queue', 'match_jobs', 'embedding_models', 'image_ai', 'match_settings', 'matches', 'matchable_faces',
            'image_owners', 'source_images', 'matching_pipeline_migrations', 'job_embeddings', 'embedding_queue',
            'source_postings', 'embedded_postings', 'image_types', 'generated_images', 'asked_images', 'project_progress'
        ] loop
            execute format('revoke all on %I from %s', name, outsider);
        end loop;
        -- Who may create a trigger on a table of their own with one of the trigger functions could have it delete in
        -- their owner's name; an existing trigger fires without this right. Who holds a slot passes for a drain.
        foreach name in array array[
            'listings_changed()', 'listing_images_changed()', 'products_changed()', 'product_images_changed()',
            'image_ai_changed()', 'matches_lost()', 'match_settings_changed()', 'faces_changed()', 'face_renamed()',
            'profiles_changed()', 'match_jobs_written()', 'jobs_changed()', 'embedding_queue_written()', 'generation_asked()',
            'generation_job_changed()', 'projects_changed()', 'take_drain_slot(text, integer)'
        ] loop
            execute format('revoke execute on function %s from %s', name, outsider);
        end loop;
    end loop;
    if to_regrole('authenticated') is not null then
        grant select on job_queue, match_jobs, matches to authenticated;
        -- the view shows a job's user and embedding by the right of who reads it
        grant execute on function signed_in_user(), signed_in_faces() to authenticated;
    end if;
end
$$;
