-- Product pictures. A job of the queue `generated_images` asks for pictures of one project: `single` for the type in its
-- payload, {"image_type": …}, `complete_pack` for every enabled type; {"force": true} makes existing pictures again.

-- The payload of the stored job: `image_types` names the pictures, so that a type which is added later changes no job
-- that was asked for before. Raises where the payload is invalid.
create or replace function generation_payload(kind text, asked jsonb) returns jsonb
language plpgsql stable as $$
declare
    wanted jsonb := case
        when asked ? 'image_types' then asked -> 'image_types'
        when kind = 'single' then jsonb_build_array(asked ->> 'image_type')
        else (select jsonb_agg(name order by position, name) from image_types where enabled)
    end;
    refused text;
begin
    if jsonb_typeof(asked) is distinct from 'object' then
        raise exception 'generated_images: the payload % is not an object', coalesce(asked::text, 'null')
            using errcode = 'check_violation';
    elsif kind is null or kind not in ('single', 'complete_pack') then
        raise exception 'generated_images: there is no kind of job %, only single and complete_pack', coalesce(kind, 'null')
            using errcode = 'check_violation';
    elsif wanted is null or jsonb_typeof(wanted) <> 'array' or wanted in ('[]', '[null]') then
        raise exception 'generated_images: no image type is asked for' using errcode = 'check_violation';
    end if;
    select string_agg(coalesce(wanted_type, 'null'), ', ') into refused
    from jsonb_array_elements_text(wanted) as wanted_type
    where not exists (select from image_types where name = wanted_type and enabled);
    if refused is not null then
        raise exception 'generated_images: there is no image type %', refused using errcode = 'foreign_key_violation',
            hint = format('There are %s.', (select string_agg(name, ', ' order by position, name) from image_types where enabled));
    end if;
    return asked - 'force' || jsonb_build_object('image_types', wanted)
        || case when asked ->> 'force' = 'true' then '{"force": true}' else '{}' end::jsonb;
end
$$;

-- The pictures that jobs ask for. `made`: it is there, from the photo that the project has now and, where it is forced,
-- since the job was asked for. `source_hash`: of the photo that the picture there was made from, where a job may keep it.
create or replace view asked_images with (security_invoker = true) as
    select job_queue.id as job_id, job_queue.status as job_status, projects.id as project_id, asked.image_type,
        asked.position, image_types.prompt, projects.source_image_url::text as source_url, kept.source_hash,
        coalesce(kept.source_url = projects.source_image_url::text, false) as made
    from job_queue
    join projects on projects.id = job_queue.entity_id
    cross join lateral jsonb_array_elements_text(job_queue.payload -> 'image_types')
        with ordinality as asked (image_type, position)
    left join image_types on image_types.name = asked.image_type
    left join generated_images as kept on kept.project_id = projects.id and kept.image_type = asked.image_type
        and not (job_queue.payload ? 'force' and kept.created_at < job_queue.created_at)
    where job_queue.queue = 'generated_images';

-- Asks, and returns the job's id. An equal job that is pending is the answer, due now and locked until the caller commits.
-- A job that another session has locked is not taken: an app's transaction must never wait for another or for a worker.
create or replace function enqueue_generation(kind text, project uuid, asked jsonb) returns uuid
language plpgsql as $$
declare
    job uuid;
    wanted jsonb := generation_payload(kind, asked);
begin
    -- above it, locking a row that a claim has changed since would abort the app's transaction
    if current_setting('transaction_isolation') = 'read committed' then
        select id into job from job_queue
        where queue = 'generated_images' and entity_kind = kind and entity_id = project and payload = wanted
          and status = 'pending'
        limit 1
        for update skip locked;
    end if;
    if job is null then
        insert into job_queue (queue, entity_kind, entity_id, payload)
        values ('generated_images', kind, project, wanted)
        returning id into job;
    else
        update job_queue set run_at = least(run_at, now()), snoozes = attempts, error_message = null where id = job;
        perform pg_notify('job_queue', 'generated_images');
    end if;
    return job;
end
$$;

create or replace function enqueue_image(project uuid, image_type text, force boolean default false) returns uuid
language sql as $$
    select enqueue_generation('single', project, jsonb_build_object('image_type', image_type, 'force', force))
$$;

create or replace function enqueue_complete_pack(project uuid, force boolean default false) returns uuid
language sql as $$
    select enqueue_generation('complete_pack', project, jsonb_build_object('force', force))
$$;

-- What a job is admitted by, whoever inserts it. One that is retried was admitted once, and is not refused: that would
-- keep a person from retrying all others.
create or replace function generation_asked() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if not exists (select from projects where id = new.entity_id) then
        raise exception 'generated_images: there is no project %', coalesce(new.entity_id::text, 'null')
            using errcode = 'foreign_key_violation';
    end if;
    new.payload := generation_payload(new.entity_kind, new.payload);
    perform pg_notify('job_queue', 'generated_images');
    return new;
end
$$;

create or replace trigger matching_pipeline_asked before insert on job_queue
    for each row when (new.queue = 'generated_images' and new.attempts = 0) execute function generation_asked();

-- Sets projects.status by the project's jobs and pictures. Where the project's row is locked, a transaction that asks or
-- claims does not wait, and the next change sets the status. A transaction that ends a job waits, so that the last
-- status is never lost. Where no job is left the status stays.
create or replace function set_project_status(project uuid, waits boolean) returns void
language plpgsql as $$
declare
    told text;
begin
    if waits then
        perform from projects where id = project for no key update;
    elsif current_setting('transaction_isolation') = 'read committed' then
        perform from projects where id = project for no key update skip locked;
    else
        return;
    end if;
    if not found then
        return;
    end if;
    -- only now, with the row locked, what others did before is seen whole
    select case
        when bool_or(status = 'processing') then 'PROCESSING'
        when bool_or(status = 'pending') then 'PENDING'
        when bool_or(
            status = 'failed' and exists (select from asked_images where job_id = job_queue.id and not made)
        ) then 'FAILED'
        when count(*) > 0 then 'COMPLETED'
    end into told
    from job_queue
    where entity_id = project and queue = 'generated_images';
    if told is null then
        return;
    end if;
    -- a literal serves a column of text as well as one of the app's enumeration
    execute format('update projects set status = %1$L where id = $1 and status::text is distinct from %1$L', told) using project;
end
$$;

create or replace function generation_job_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    missing text;
begin
    if tg_op = 'DELETE' then
        perform set_project_status(old.entity_id, waits => false);
        return null;
    elsif new.status = 'completed' then
        select string_agg(image_type, ', ' order by position) into missing
        from asked_images where job_id = new.id and source_hash is null;
        if missing is not null then
            raise exception 'generated_images: the job % is not done: % is missing, see save_generated_image', new.id, missing
                using errcode = 'check_violation';
        end if;
        -- failed jobs whose pictures are all there now are deleted
        delete from job_queue as failure
        where entity_id = new.entity_id and queue = 'generated_images' and status = 'failed'
          and not exists (select from asked_images where job_id = failure.id and not made);
    end if;
    perform set_project_status(new.entity_id, waits => new.status in ('completed', 'failed'));
    -- whose project was deleted while its worker had it locked
    if new.status in ('completed', 'failed') and not exists (select from projects where id = new.entity_id) then
        delete from job_queue where id = new.id;
    end if;
    return null;
end
$$;

create or replace trigger matching_pipeline_asked_status after insert on job_queue
    for each row when (new.queue = 'generated_images') execute function generation_job_changed();
create or replace trigger matching_pipeline_status after update of status on job_queue
    for each row when (new.queue = 'generated_images' and new.status <> old.status) execute function generation_job_changed();
-- a job that was released while an equal one waits, that another job made needless, or that a person deleted
create or replace trigger matching_pipeline_gone_status after delete on job_queue
    for each row when (old.queue = 'generated_images' and old.status <> 'completed') execute function generation_job_changed();

-- Writes the row of a picture whose file is stored, for the holder of the lease (job_id, attempt) only; says whether it
-- still was. A picture of an older photo never takes the place of one of the present photo.
create or replace function save_generated_image(
    job_id uuid, attempt integer, image_type text, url text, width integer, height integer, media_type text, bytes bigint,
    model text, source_url text, source_hash bytea, cost_usd numeric default null
) returns boolean
language plpgsql as $$
declare
    project uuid;
    present text;
begin
    select entity_id into project from job_queue
    where id = save_generated_image.job_id and attempts = attempt and status = 'processing' and queue = 'generated_images'
    for update;
    select source_image_url into present from projects where id = project for key share;
    if not found then
        return false;
    end if;
    insert into generated_images as standing
        (project_id, image_type, url, width, height, media_type, bytes, model, source_url, source_hash, cost_usd)
    values (project, save_generated_image.image_type, save_generated_image.url, save_generated_image.width,
        save_generated_image.height, save_generated_image.media_type, save_generated_image.bytes, save_generated_image.model,
        save_generated_image.source_url, save_generated_image.source_hash, save_generated_image.cost_usd)
    on conflict on constraint generated_images_pkey do update set
        url = excluded.url, width = excluded.width, height = excluded.height, media_type = excluded.media_type,
        bytes = excluded.bytes, model = excluded.model, source_url = excluded.source_url,
        source_hash = excluded.source_hash, cost_usd = excluded.cost_usd, created_at = now()
    where excluded.source_url = present or standing.source_url is distinct from present;
    return true;
end
$$;

-- The number that names a picture among advisory locks. The worker that makes the picture holds the lock in
-- a session, from before it looks whether the picture is there until the picture's row is written.
create or replace function picture_lock(project uuid, image_type text) returns bigint
language sql immutable as $$
    select hashtextextended('matching_pipeline.picture.' || project || '.' || image_type, 0)
$$;

-- A project that is gone has no jobs, and one that is renamed keeps them. Its pictures follow by their foreign key. A
-- locked job is left to its worker and is deleted when it ends, so that the app waits for no lock.
create or replace function projects_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from job_queue
        where id = any (array (select id from job_queue where queue = 'generated_images' for update skip locked));
    elsif tg_op = 'UPDATE' then
        update job_queue set entity_id = new.id
        where id = any (array (
            select id from job_queue where entity_id = old.id and queue = 'generated_images' for update skip locked
        ));
    else
        delete from job_queue
        where id = any (array (
            select id from job_queue where entity_id = old.id and queue = 'generated_images' for update skip locked
        ));
    end if;
    return null;
end
$$;

create or replace trigger matching_pipeline_delete after delete on projects
    for each row execute function projects_changed();
create or replace trigger matching_pipeline_rename after update of id on projects
    for each row when (old.id is distinct from new.id) execute function projects_changed();
create or replace trigger matching_pipeline_truncate after truncate on projects
    for each statement execute function projects_changed();

-- For people and dashboards: how far each project is, and why where something failed.
create or replace view project_progress with (security_invoker = true) as
    select projects.id as project_id, projects.status::text as status,
        (select count(*) from generated_images where project_id = projects.id) as pictures,
        jobs.unfinished as unfinished_jobs, jobs.failed as failed_jobs, jobs.error_message
    from projects
    cross join lateral (
        select count(*) filter (where status <> 'failed') as unfinished, count(*) filter (where status = 'failed') as failed,
            (array_agg(error_message order by coalesce(completed_at, started_at) desc)
                filter (where error_message is not null))[1] as error_message
        from job_queue
        where entity_id = projects.id and queue = 'generated_images' and status <> 'completed'
    ) as jobs;
