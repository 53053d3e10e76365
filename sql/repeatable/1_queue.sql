-- The queue's verbs. A lease is named by (id, attempt): only its holder can complete, fail, snooze or renew, and each verb says whether the lease was
-- still valid. Rows are looked up by `= any (array (...))`, which the planner answers from the primary key however long the queue is. The expression
-- `status || ''` makes it avoid jobs_lease_idx, which is empty whenever no worker works, and long at other times.

-- Whether enqueuing wakes the workers of a queue. ENQUEUE_NOTIFY says it for all queues. The queue of a shadow is treated as its main queue.
create or replace function is_announced(queue_name text) returns boolean
language plpgsql stable as $$
begin
    return not exists (
        select from matching_pipeline.queues where name in (queue_name, regexp_replace(queue_name, '_shadow$', '')) and not notify
    );
end
$$;

-- Wakes the workers of a queue when the transaction commits. The message is the queue's name only: a long payload would abort
-- the app's statement. An app can set `matching_pipeline.notify` to off for a transaction, such as one that it prepares. A caller that has read the
-- queue's row passes `announced`. Returns whether it wakes them, so that a caller can assign the result: that costs less than `perform`.
create or replace function announce_jobs(queue_name text, announced boolean default null) returns boolean
language plpgsql as $$
begin
    if coalesce(current_setting('matching_pipeline.notify', true), '') = 'off'
       or not coalesce(announced, matching_pipeline.is_announced(queue_name))
    then
        return false;
    end if;
    perform pg_notify('matching_pipeline_jobs', queue_name);
    return true;
end
$$;

-- When the app made the change that the transaction's jobs follow from: a worker states it by the setting
-- `matching_pipeline.caused_at`. The app's own transaction is the change.
create or replace function transaction_caused_at() returns timestamptz
language sql stable as $$
    -- every role can set it, so it must be a date that clients can read
    select case
        when current_setting('matching_pipeline.caused_at', true) ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}' then
            least(greatest(current_setting('matching_pipeline.caused_at')::timestamptz, now() - interval '10 years'), now())
        else now()
    end
$$;

-- Enqueues a job in the queue `queue_name` for each key, and returns the number of different keys. A job that is pending already is not added twice:
-- its row is locked until the caller commits, so that no claim takes it and reads the old input. If another session has locked the row, a second job
-- is added: an app's transaction must never wait in here for another transaction or for a worker. The update is a statement of
-- its own, since most calls find no pending job: as a part of the insert, it would fire its triggers then too.
create or replace function enqueue_jobs(queue_name text, source_name text, job_kind text, keys text[], announced boolean default null) returns integer
-- planning the statements for each row of the app's would cost more than the statements
language plpgsql set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    caused timestamptz := transaction_caused_at();
    standing uuid[];
    standing_keys text[];
    already integer := 0;
    added integer;
begin
    if coalesce(cardinality(keys), 0) = 0 then
        return 0;
    end if;
    -- At a stricter isolation level Postgres would abort the app's transaction if a worker has changed a row that this
    -- locks. If two transactions read jobs, it could abort one.
    if current_setting('transaction_isolation') = 'read committed' then
        select array_agg(found.id), array_agg(found.key) into standing, standing_keys
        from unnest(keys) as wanted (key)
        -- A plan that was made while the table was small stays, and must not read all rows for each key then. A subquery that locks is executed key
        -- by key, and the expressions make it avoid every index but jobs_key_idx.
        cross join lateral (
            select id, key from jobs
            where jobs.key = wanted.key and source = source_name and queue || '' = queue_name and kind = job_kind
              and status || '' = 'pending' and payload = '{}'
            for update skip locked
        ) as found;
        if standing is not null then
            update jobs
            set run_at = least(run_at, now()), snoozes = attempts, deaths = 0, error_message = null, caused_at = least(caused_at, caused)
            where id = any (standing)
              and (run_at > now() or snoozes < attempts or deaths > 0 or error_message is not null or caused_at > caused);
            already := (select count(distinct key) from unnest(standing_keys) as key);
            keys := array(select unnest(keys) except select unnest(standing_keys));
        end if;
    end if;
    insert into jobs (queue, source, kind, key, caused_at)
    select distinct queue_name, source_name, job_kind, key, caused from unnest(keys) as key
    where octet_length(key) <= 2000;
    get diagnostics added = row_count;
    -- two conditions, as one with a subquery costs as much as a statement
    if added < cardinality(keys) then
        if exists (select from unnest(keys) as key where octet_length(key) > 2000) then
            -- no index can hold it
            raise warning 'matching_pipeline: a row of the source % is left out: its key has more than 2,000 bytes', source_name;
        end if;
    end if;
    announced := announce_jobs(queue_name, announced);
    return added + already;
end
$$;

-- Renews the lease of a job; returns whether it had not ended. It waits for no lock: a locked row is being deleted, or claimed because its lease ran
-- out.
create or replace function mark_job_processing(job_id uuid, attempt integer, lease interval default '2 minutes')
returns boolean
language sql set search_path from current as $$
    update jobs set run_at = now() + lease
    where id = (
        select id from jobs
        where id = job_id and attempts = attempt and status || '' = 'processing'
        for update skip locked
    )
    returning true
$$;

-- Completes the jobs whose lease is still held and returns their ids. Deletes failed jobs of the same work that started earlier.
create or replace function complete_jobs(job_ids uuid[], their_attempts integer[]) returns setof uuid
language sql set search_path from current as $$
    with done as (
        update jobs set status = 'completed', completed_at = now(), error_message = null
        from unnest(job_ids, their_attempts) as leases (id, attempt)
        where jobs.id = any (job_ids) and jobs.id = leases.id and attempts = attempt and status || '' = 'processing'
        returning jobs.id, queue, source, kind, key, payload, started_at
    ),
    gone as (
        delete from jobs
        where id = any (array (
            select failed.id
            from done
            -- a subquery that locks is asked key by key
            cross join lateral (
                select id from jobs
                where jobs.key = done.key and jobs.source = done.source and jobs.queue || '' = done.queue
                  and jobs.kind = done.kind and jobs.payload = done.payload and jobs.status || '' = 'failed'
                  and jobs.started_at < done.started_at
                for update
            ) as failed
        ))
    )
    select id from done
$$;

-- Completes the job for the holder of the lease; returns whether the lease had not ended.
create or replace function mark_job_completed(job_id uuid, attempt integer) returns boolean
language sql set search_path from current as $$
    select exists (select from complete_jobs(array[job_id], array[attempt]))
$$;

-- Makes the job pending again, or deletes it if another pending row asks for the same work.
create or replace function return_job(job_id uuid, attempt integer, delay interval, reason text, charged boolean)
returns boolean
language plpgsql set search_path from current as $$
begin
    delete from jobs as mine
    where id = job_id and attempts = attempt and status || '' = 'processing'
      and exists (
          select from jobs as twin
          where twin.key = mine.key and twin.source = mine.source and twin.queue = mine.queue and twin.kind = mine.kind
            and twin.payload = mine.payload and twin.status = 'pending'
      );
    if found then
        return true;
    end if;
    update jobs
    set status = 'pending', run_at = now() + delay, error_message = reason,
        snoozes = snoozes + case when charged then 0 else 1 end,
        -- a failed attempt has killed no worker
        deaths = case when charged then 0 else deaths end, batch_limit = case when charged then null else batch_limit end
    where id = job_id and attempts = attempt and status || '' = 'processing';
    return found;
end
$$;

-- Fails the job for the holder of the lease, and counts the attempt. The job is due again after 1, 2 or 4 minutes, or `failed` when its attempts are spent or another
-- attempt cannot help.
create or replace function mark_job_failed(job_id uuid, attempt integer, reason text, permanent boolean default false)
returns boolean
language plpgsql set search_path from current as $$
declare
    charged integer;
    failed jobs;
begin
    reason := coalesce(reason, 'its worker gave no reason');
    update jobs set status = 'failed', completed_at = now(), error_message = reason
    where id = job_id and attempts = attempt and status || '' = 'processing'
      and (permanent or attempts - snoozes >= max_attempts)
    returning * into failed;
    if found then
        -- only the newest dead letter for the same work stays
        delete from jobs
        where key = failed.key and source = failed.source and queue = failed.queue and kind = failed.kind
          and payload = failed.payload and status = 'failed' and id <> failed.id and started_at <= failed.started_at;
        return true;
    end if;
    select attempts - snoozes into charged from jobs where id = job_id and attempts = attempt;
    return coalesce(return_job(job_id, attempt, interval '1 minute' * 2 ^ least(charged - 1, 10), reason, true), false);
end
$$;

-- Releases the job until after the delay, without counting the attempt.
create or replace function snooze_job(job_id uuid, attempt integer, delay interval, reason text) returns boolean
language sql set search_path from current as $$
    select return_job(job_id, attempt, delay, reason, false)
$$;

-- Releases a job at once, without counting the attempt, to be claimed with fewer others: one of them causes an error in the worker.
create or replace function suspect_job(job_id uuid, attempt integer, limit_of_batch integer, reason text) returns boolean
language plpgsql set search_path from current as $$
begin
    update jobs set batch_limit = limit_of_batch where id = job_id and attempts = attempt and status || '' = 'processing';
    return return_job(job_id, attempt, interval '0', reason, false);
end
$$;

-- Makes the queue's pending jobs due after the delay at the earliest. Jobs that the app enqueues meanwhile keep their time.
create or replace function snooze_queue(queue_name text, delay interval, reason text) returns bigint
language sql set search_path from current as $$
    with snoozed as (
        update jobs set run_at = now() + delay, error_message = reason
        where id in (
            select id from jobs
            where queue = queue_name and status = 'pending' and run_at < now() + delay
            for update skip locked
        )
        returning 1
    )
    select count(*) from snoozed
$$;

-- A person retries failed jobs with fresh attempts: all jobs of a queue, or the given rows. If several rows are for the same work, the newest becomes
-- pending, or none if a pending row already asks for that work. A pack that makes existing pictures again (`force`) counts the pictures made since it
-- was asked for. So the newest of equal packs makes no less than any other would. The pictures of the others stay, and their answers are kept in
-- `ai_answers`.
create or replace function retry_jobs(queue_name text, ids uuid[] default null) returns bigint
language plpgsql set search_path from current as $$
declare
    retried bigint;
begin
    with failed as (
        delete from jobs where queue = queue_name and status = 'failed' and (ids is null or id = any (ids))
        returning *
    )
    insert into jobs (id, queue, source, kind, key, payload, attempts, snoozes, max_attempts, caused_at, created_at)
    select distinct on (source, key, kind, payload)
        id, queue, source, kind, key, payload, attempts, attempts, max_attempts, caused_at, created_at
    from failed
    where not exists (
        select from jobs as pending
        where pending.key = failed.key and pending.source = failed.source and pending.queue = queue_name
          and pending.kind = failed.kind and pending.payload = failed.payload
          and pending.status = 'pending'
    )
    order by source, key, kind, payload, created_at desc;
    get diagnostics retried = row_count;
    perform announce_jobs(queue_name);
    return retried;
end
$$;

-- Deletes one small batch of jobs that ended long ago. Call it again while it deletes a whole batch.
create or replace function purge_completed_jobs(keep interval default '7 days', batch_size integer default 5000)
returns bigint
language sql set search_path from current as $$
    with purged as (
        delete from jobs
        where id = any (array (
            select id from jobs
            where status = 'completed' and completed_at < now() - greatest(keep, interval '0')
            order by completed_at
            limit batch_size
            for update skip locked
        ))
        returning 1
    )
    select count(*) from purged
$$;

-- The number that names a queue among advisory locks.
create or replace function queue_lock(queue_name text) returns integer
language sql immutable as $$
    select hashtext('matching_pipeline.queue.' || queue_name)
$$;

-- A worker is alive as long as its session holds one of the queue's slots; null when all are taken.
create or replace function take_worker_slot(queue_name text, slots integer) returns integer
language plpgsql set search_path from current as $$
begin
    for slot in 1..slots loop
        if pg_try_advisory_lock(queue_lock(queue_name), slot) then
            return slot;
        end if;
    end loop;
    return null;
end
$$;

-- The reason why a job failed, without the parts that differ from job to job: addresses, ids and quoted texts.
create or replace function reason_of(error_message text) returns text
language sql immutable parallel safe set search_path from current as $$
    select regexp_replace(error_message, '[a-z]+://[^[:space:]]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|"[^"]*"|''[^'']*''', '...', 'g')
$$;
