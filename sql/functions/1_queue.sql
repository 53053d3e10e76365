-- The queue's verbs. A lease is named by (id, attempt): only its holder can complete, fail, snooze or renew, and
-- each verb says whether the lease was still valid.
-- Rows are looked up by `= any (array (…))`, which the planner answers from the primary key however long the queue is.

-- Enqueues a job in the queue `queue_name` for each id, and returns the number of different ids. A job that is pending already
-- is not added twice: its row is locked until the caller commits, so that no claim takes it and reads the old input.
-- Where another session has locked the row, a second job is added: an app's transaction must never wait in here for
-- another transaction or for a worker.
create or replace function enqueue_jobs(queue_name text, kind text, ids uuid[]) returns integer
language plpgsql as $$
declare
    owed integer;
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return 0;
    end if;
    with standing as materialized (
        select id, entity_id from job_queue
        where queue = queue_name and entity_kind = kind and entity_id = any (ids) and status = 'pending'
          -- above it, locking a row that a claim has changed since would abort the app's transaction
          and current_setting('transaction_isolation') = 'read committed'
        for update skip locked
    ),
    refreshed as (
        update job_queue set run_at = least(run_at, now()), snoozes = attempts, error_message = null
        where id = any (array (select id from standing))
          and (run_at > now() or snoozes < attempts or error_message is not null)
    ),
    added as (
        insert into job_queue (queue, entity_kind, entity_id)
        select distinct queue_name, kind, id
        from unnest(ids) as id
        where id is not null and id <> all (array (select entity_id from standing))
        returning 1
    )
    select (select count(distinct entity_id) from standing) + (select count(*) from added) into owed;
    -- the queue's name only: a long payload would abort the app's statement
    perform pg_notify('job_queue', queue_name);
    return owed;
end
$$;

-- Claims up to `batch_size` due rows, oldest first. A row whose worker died twice is claimed alone, so that a row that
-- kills its worker does not harm other rows for ever. When its attempts are spent it fails.
create or replace function get_next_job(queue_name text default 'generated_images', batch_size integer default 1, lease interval default '2 minutes')
returns setof job_queue
language sql as $$
    with due as materialized (
        select id, status = 'processing' and attempts - snoozes > 1 as suspect,
            status = 'processing' and attempts - snoozes >= max_attempts as spent, run_at
        from job_queue
        where queue = queue_name and status in ('pending', 'processing') and run_at <= now()
        order by run_at, id
        limit greatest(batch_size, 1)
        for update skip locked
    ),
    given_up as (
        update job_queue
        set status = 'failed', completed_at = now(),
            error_message = format('its worker died or lost its lease %s times', attempts - snoozes)
        where id = any (array (select id from due where spent))
    ),
    picked as (
        select id from due where not suspect and not spent and not exists (select from due where suspect and not spent)
        union all
        (select id from due where suspect and not spent order by run_at, id limit 1)
    ),
    claimed as (
        update job_queue
        set status = 'processing', attempts = attempts + 1, started_at = now(), run_at = now() + lease
        where id = any (array (select id from picked))
        returning *
    )
    select * from claimed order by created_at, id
$$;

-- Renews the lease. It waits for no lock: a locked row is being deleted, or claimed because its lease ran out.
create or replace function mark_job_processing(job_id uuid, attempt integer, lease interval default '2 minutes')
returns boolean
language sql as $$
    update job_queue set run_at = now() + lease
    where id = (
        select id from job_queue
        where id = job_id and attempts = attempt and status = 'processing'
        for update skip locked
    )
    returning true
$$;

-- Completes the job, and deletes failed jobs of the same work that started earlier.
create or replace function mark_job_completed(job_id uuid, attempt integer) returns boolean
language plpgsql as $$
declare
    done job_queue;
begin
    update job_queue set status = 'completed', completed_at = now(), error_message = null
    where id = job_id and attempts = attempt and status = 'processing'
    returning * into done;
    if not found then
        return false;
    end if;
    delete from job_queue
    where entity_id = done.entity_id and queue = done.queue and entity_kind = done.entity_kind and payload = done.payload
      and status = 'failed' and started_at < done.started_at;
    return true;
end
$$;

-- Makes the job pending again, or deletes it where another pending row asks for the same work.
create or replace function return_job(job_id uuid, attempt integer, delay interval, reason text, charged boolean)
returns boolean
language plpgsql as $$
begin
    delete from job_queue as mine
    where id = job_id and attempts = attempt and status = 'processing'
      and exists (
          select from job_queue as twin
          where twin.entity_id = mine.entity_id and twin.queue = mine.queue and twin.entity_kind = mine.entity_kind
            and twin.payload = mine.payload and twin.status = 'pending'
      );
    if found then
        return true;
    end if;
    update job_queue
    set status = 'pending', run_at = now() + delay, error_message = reason,
        snoozes = snoozes + case when charged then 0 else 1 end
    where id = job_id and attempts = attempt and status = 'processing';
    return found;
end
$$;

-- Counts the attempt. The job is due again after 1, 2 or 4 minutes, or `failed` when its attempts are spent or another
-- attempt cannot help.
create or replace function mark_job_failed(job_id uuid, attempt integer, reason text, permanent boolean default false)
returns boolean
language plpgsql as $$
declare
    charged integer;
begin
    reason := coalesce(reason, 'its worker gave no reason');
    update job_queue set status = 'failed', completed_at = now(), error_message = reason
    where id = job_id and attempts = attempt and status = 'processing'
      and (permanent or attempts - snoozes >= max_attempts);
    if found then
        return true;
    end if;
    select attempts - snoozes into charged from job_queue where id = job_id and attempts = attempt;
    return coalesce(return_job(job_id, attempt, interval '1 minute' * 2 ^ (charged - 1), reason, true), false);
end
$$;

-- Releases the job until after the delay, without counting the attempt.
create or replace function snooze_job(job_id uuid, attempt integer, delay interval, reason text) returns boolean
language sql as $$
    select return_job(job_id, attempt, delay, reason, false)
$$;

-- Makes the queue's pending jobs due after the delay at the earliest, except jobs that the app enqueues meanwhile.
create or replace function snooze_queue(queue_name text, delay interval, reason text) returns bigint
language sql as $$
    with deferred as (
        update job_queue set run_at = now() + delay, error_message = reason
        where id in (
            select id from job_queue
            where queue = queue_name and status = 'pending' and run_at < now() + delay
            for update skip locked
        )
        returning 1
    )
    select count(*) from deferred
$$;

-- A person retries failed jobs with fresh attempts: all jobs of a queue, or the given rows. Of several rows for the same
-- work the newest becomes pending, and none where a pending row already asks for that work. A pack that makes existing
-- pictures again (`force`) counts the pictures made since it was asked for. So the newest of equal packs makes no less
-- than any other would. The pictures of the others stay, and their answers are kept in `ai_answers`.
create or replace function retry_jobs(queue_name text, ids uuid[] default null) returns bigint
language plpgsql as $$
declare
    retried bigint;
begin
    with failed as (
        delete from job_queue where queue = queue_name and status = 'failed' and (ids is null or id = any (ids))
        returning *
    )
    insert into job_queue (id, queue, entity_kind, entity_id, payload, attempts, snoozes, max_attempts, created_at)
    select distinct on (entity_id, entity_kind, payload)
        id, queue, entity_kind, entity_id, payload, attempts, attempts, max_attempts, created_at
    from failed
    where not exists (
        select from job_queue as pending
        where pending.entity_id = failed.entity_id and pending.queue = queue_name
          and pending.entity_kind = failed.entity_kind and pending.payload = failed.payload
          and pending.status = 'pending'
    )
    order by entity_id, entity_kind, payload, created_at desc;
    get diagnostics retried = row_count;
    perform pg_notify('job_queue', queue_name);
    return retried;
end
$$;

-- Deletes one small batch of jobs that ended long ago. Call it again while it deletes a whole batch.
create or replace function purge_completed_jobs(keep interval default '7 days', batch_size integer default 5000)
returns bigint
language sql as $$
    with purged as (
        delete from job_queue
        where id = any (array (
            select id from job_queue
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
language plpgsql as $$
begin
    for slot in 1..slots loop
        if pg_try_advisory_lock(queue_lock(queue_name), slot) then
            return slot;
        end if;
    end loop;
    return null;
end
$$;
