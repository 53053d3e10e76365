-- Product pictures. A job of a queue whose work is `generate` asks for pictures of one entity. The kind `single` asks for the type in
-- its payload, {"image_type": ...}, and `complete_pack` for every enabled type. {"force": true} makes existing pictures again.

-- The payload of the stored job: `image_types` names the pictures, so that a type which is added later changes no job
-- that was asked for before. Raises if the payload is invalid.
create or replace function generation_payload(job_kind text, asked jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    wanted jsonb := case
        when asked ? 'image_types' then asked -> 'image_types'
        when job_kind = 'single' then jsonb_build_array(asked ->> 'image_type')
        else (select jsonb_agg(name order by position, name) from image_types where enabled)
    end;
    refused text;
begin
    if jsonb_typeof(asked) is distinct from 'object' then
        raise exception 'generated_images: the payload % is not an object', coalesce(asked::text, 'null')
            using errcode = 'check_violation';
    elsif job_kind is null or job_kind not in ('single', 'complete_pack') then
        raise exception 'generated_images: there is no kind of job %, only single and complete_pack', coalesce(job_kind, 'null')
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

-- The pictures that jobs ask for. `made`: it is there, from the photo that the entity has now and, if it is forced, since the job was asked for.
-- `source_hash`: the hash of the photo that the present picture was made from, if a job may keep it.
create or replace function asked_pictures(job_ids uuid[])
returns table (
    job_id uuid, job_status text, source text, key text, image_type text, "position" bigint, prompt text, source_url text,
    source_hash bytea, made boolean
)
language sql stable set search_path from current as $$
    with asking as materialized (
        select jobs.* from jobs join queues on queues.name = jobs.queue and queues.work = 'generate' where jobs.id = any (job_ids)
    ), photos as materialized (
        select asked_of.source, photo.entity_key, photo.content
        from (select asking.source, array_agg(distinct asking.key) as keys from asking group by asking.source) as asked_of
        cross join lateral read_source(asked_of.source, 'entity', asked_of.keys) as photo
        where photo.applies
    )
    select asking.id, asking.status, asking.source, asking.key, asked.image_type, asked.position, image_types.prompt,
        photos.content, kept.source_hash, coalesce(kept.source_url = photos.content, false)
    from asking
    join photos on photos.source = asking.source and photos.entity_key = asking.key
    cross join lateral jsonb_array_elements_text(asking.payload -> 'image_types')
        with ordinality as asked (image_type, position)
    left join image_types on image_types.name = asked.image_type
    left join generated_images as kept on kept.source = asking.source and kept.key = asking.key
        and kept.image_type = asked.image_type
        and not (asking.payload ? 'force' and kept.created_at < asking.created_at)
$$;

-- Asks for product pictures, and returns the job's id. If an equal job is pending, it returns that one, which is due now and locked until the caller
-- commits. A job that another session has locked is not taken: an app's transaction must never wait for another or for a worker. Runs with its
-- owner's rights: pictures cost money, so a role that asks needs only the right to execute this function.
create or replace function request_pictures(queue_name text, source_name text, job_kind text, entity_key text, asked jsonb) returns uuid
language plpgsql security definer set search_path from current as $$
declare
    job uuid;
    wanted jsonb := generation_payload(job_kind, asked);
    waits text := coalesce(current_setting('matching_pipeline.status_waits', true), '');
begin
    -- in a trigger of the app this may be the row that is being updated
    perform set_config('matching_pipeline.status_waits', case when pg_trigger_depth() > 0 then 'on' else waits end, true);
    -- At a stricter isolation level Postgres would abort the app's transaction if a worker has changed a row that this
    -- locks.
    if current_setting('transaction_isolation') = 'read committed' then
        select id into job from jobs
        where queue = queue_name and source = source_name and kind = job_kind and key = entity_key and payload = wanted
          and status = 'pending'
        limit 1
        for update skip locked;
    end if;
    if job is null then
        insert into jobs (queue, source, kind, key, payload)
        values (queue_name, source_name, job_kind, entity_key, wanted)
        returning id into job;
    else
        update jobs set run_at = least(run_at, now()), snoozes = attempts, deaths = 0, error_message = null where id = job;
        perform announce_jobs(queue_name);
    end if;
    perform set_config('matching_pipeline.status_waits', waits, true);
    return job;
end
$$;

create or replace function is_generation(queue_name text) returns boolean
language sql stable set search_path from current as $$
    select exists (select from queues where name = queue_name and work = 'generate')
$$;

-- Checks each job that is inserted, whoever inserts it. A retried job is not refused, as it was checked once: a refusal would prevent the retry of
-- all others.
create or replace function generation_requested() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if not is_generation(new.queue) then
        return new;
    end if;
    if new.key is null or not exists (select from read_source(new.source, 'entity', array[new.key]) where applies) then
        raise exception 'generated_images: the source % has no entity %', new.source, coalesce(new.key, 'null')
            using errcode = 'foreign_key_violation';
    end if;
    new.payload := generation_payload(new.kind, new.payload);
    perform announce_jobs(new.queue);
    return new;
end
$$;

create or replace trigger jobs_generation_requested before insert on jobs
    for each row when (new.attempts = 0 and new.kind not in ('entity', 'item')) execute function generation_requested();

-- Whether a picture that the job asks for is not made. It is true if the source cannot be read.
create or replace function lacks_pictures(job_id uuid) returns boolean
language plpgsql stable set search_path from current as $$
begin
    return exists (select from asked_pictures(array[job_id]) where not made);
exception when others then
    return true;
end
$$;

-- Whether the entity exists. It is true if the source cannot be read.
create or replace function stands(source_name text, entity_key text) returns boolean
language plpgsql set search_path from current as $$
begin
    return exists (select from read_source(source_name, 'entity', array[entity_key]) where applies);
exception when others then
    return true;
end
$$;

create or replace function generation_job_changed() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    missing text;
begin
    if new.status = 'completed' then
        select string_agg(image_type, ', ' order by position) into missing
        from asked_pictures(array[new.id]) where source_hash is null;
        if missing is not null then
            raise exception 'generated_images: the job % is not done: % is missing, see save_generated_image', new.id, missing
                using errcode = 'check_violation';
        end if;
        -- failed jobs whose pictures are all there now are deleted
        delete from jobs as failure
        where key = new.key and source = new.source and queue = new.queue and status = 'failed'
          and not lacks_pictures(failure.id);
    end if;
    -- Its entity may have been deleted while its worker had the job locked, or wrote a picture. A deletion that is under way is awaited.
    if new.status in ('completed', 'failed') then
        begin
            perform lock_entity_row(new.source, new.key, waits => true);
        exception when undefined_column or undefined_table then
            null;
        end;
    end if;
    if new.status in ('completed', 'failed') and not stands(new.source, new.key) then
        perform erase_entities(new.source, array[new.key]);
    end if;
    return null;
end
$$;

create or replace trigger jobs_generation_changed after update of status on jobs
    for each row when (new.kind in ('single', 'complete_pack') and new.status <> old.status) execute function generation_job_changed();

-- Writes the row of a picture whose file is stored, for the holder of the lease (job_id, attempt) only; says whether it
-- still was. A picture of an older photo never takes the place of one of the present photo.
create or replace function save_generated_image(
    job_id uuid, attempt integer, image_type text, url text, width integer, height integer, media_type text, bytes bigint,
    model text, source_url text, source_hash bytea, cost_usd numeric default null
) returns boolean
language plpgsql set search_path from current as $$
declare
    job jobs;
    photo text;
begin
    select * into job from jobs
    where id = save_generated_image.job_id and attempts = attempt and status || '' = 'processing' and kind in ('single', 'complete_pack')
    for update;
    if not found then
        return false;
    end if;
    select content into photo from read_source(job.source, 'entity', array[job.key]) where applies;
    if not found then
        return false;
    end if;
    insert into generated_images as standing
        (source, key, image_type, url, width, height, media_type, bytes, model, source_url, source_hash, cost_usd)
    values (job.source, job.key, save_generated_image.image_type, save_generated_image.url, save_generated_image.width,
        save_generated_image.height, save_generated_image.media_type, save_generated_image.bytes, save_generated_image.model,
        save_generated_image.source_url, save_generated_image.source_hash, save_generated_image.cost_usd)
    on conflict on constraint generated_images_pkey do update set
        url = excluded.url, width = excluded.width, height = excluded.height, media_type = excluded.media_type,
        bytes = excluded.bytes, model = excluded.model, source_url = excluded.source_url,
        source_hash = excluded.source_hash, cost_usd = excluded.cost_usd, created_at = now()
    where excluded.source_url = photo or standing.source_url is distinct from photo;
    return true;
end
$$;

-- Erases the jobs and pictures of entities that were deleted while triggers were disabled; returns how many entities. It leaves out a
-- source that cannot be read.
create or replace function erase_entities_without_row() returns bigint
language plpgsql set search_path from current as $$
declare
    source_name text;
    known text[];
    gone text[];
    erased bigint := 0;
begin
    for source_name, known in
        select source, array_agg(key) from (
            select source, key from generated_images
            union
            select source, key from jobs where kind in ('single', 'complete_pack')
        ) as asked
        group by source
    loop
        begin
            gone := array(
                select unnest(known) except select entity_key from read_source(source_name, 'entity', known) where applies
            );
            perform erase_entities(source_name, gone);
            erased := erased + cardinality(gone);
        exception when data_exception or syntax_error_or_access_rule_violation then
            raise warning 'matching_pipeline: the source % cannot be read: %', source_name, sqlerrm;
        end;
    end loop;
    return erased;
end
$$;

-- The number that names a picture among advisory locks. The worker that makes the picture holds the lock in
-- a session, from before it looks whether the picture is there until the picture's row is written.
create or replace function picture_lock(source text, key text, image_type text) returns bigint
language sql immutable as $$
    select hashtextextended('matching_pipeline.picture.' || source || '.' || key || '.' || image_type, 0)
$$;

create or replace function generated_images_coverage(out what text, out rows bigint, out covered bigint, out waiting bigint,
    out failed_for_good bigint, out unaccounted bigint)
language sql stable set search_path from current as $$
    with asked as (
        select source, key, image_type, bool_or(job_status in ('pending', 'processing')) as waiting,
            bool_or(job_status = 'failed') as failed, false as there
        from asked_pictures(array(select id from jobs where kind in ('single', 'complete_pack')))
        group by source, key, image_type
        union all
        select source, key, image_type, false, false, true from generated_images
    ),
    pictures as (
        select bool_or(there) as there, bool_or(waiting) as waiting, bool_or(failed) as failed
        from asked
        group by source, key, image_type
    )
    select 'product pictures', count(*),
        count(*) filter (where there),
        count(*) filter (where not there and waiting),
        count(*) filter (where not there and not waiting and failed),
        count(*) filter (where not there and not waiting and not failed)
    from pictures
$$;
