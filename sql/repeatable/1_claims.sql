-- Claims of jobs, and what happens to the jobs of a worker that died.
--
-- The process of a worker has a number, its claimer. Each of its sessions names it by the setting `matching_pipeline.claimer`, and holds the advisory
-- lock (claimer_lock(), claimer). The lock is shared, so that a session which was lost and is not closed yet does not hold up its successor. If no
-- session holds it, the worker is gone. A claim without the setting, as through a pooler or PostgREST, ends only with its lease.

create or replace function claimer_lock() returns integer
language sql immutable as $$
    select hashtext('matching_pipeline.claimer')
$$;

-- Makes the session one of this worker.
create or replace function enter_as_claimer(claimer integer) returns void
language sql set search_path from current as $$
    select set_config('matching_pipeline.claimer', claimer::text, false);
    select pg_advisory_lock_shared(claimer_lock(), claimer)
$$;

-- Whether no session of the worker is open; for a session of another worker to call. It takes the lock for an instant, as reading `pg_locks` costs
-- more the more locks the server has.
create or replace function is_gone(claimer integer) returns boolean
language plpgsql set search_path from current as $$
begin
    if pg_try_advisory_lock(claimer_lock(), claimer) then
        perform pg_advisory_unlock(claimer_lock(), claimer);
        return true;
    end if;
    return false;
end
$$;

-- Cuts the leases of workers that are gone to ten seconds. A worker that merely reconnects renews its leases within that time.
create or replace function cut_leases_of_dead_workers() returns bigint
language sql set search_path from current as $$
    with claimers as materialized (
        select distinct claimer from jobs
        where status = 'processing' and run_at > now() + interval '10 seconds'
          and claimer <> coalesce(nullif(current_setting('matching_pipeline.claimer', true), '')::integer, 0)
    ),
    gone as materialized (
        select claimer from claimers where is_gone(claimer)
    ),
    cut as (
        update jobs set run_at = now() + interval '10 seconds'
        where id = any (array (
            select id from jobs
            where status = 'processing' and run_at > now() + interval '10 seconds' and claimer in (select claimer from gone)
            for update skip locked
        ))
        returning 1
    )
    select count(*) from cut
$$;

-- Makes the jobs of ended leases pending, in all queues together. Any of the jobs that a worker had may have killed it: all
-- become suspects, which are claimed in batches of half the size. The death of a worker counts for the job that was alone
-- with it, or was its only suspect. After a first death a job keeps its place in the queue. After more it goes to the end, and
-- later each time: so others have their turn, and suspects of two queues do not meet in one worker for ever.
create or replace function release_lost_jobs() returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    with lost as materialized (
        select id, queue, source, kind, key, payload, created_at, batch_limit as suspect, deaths as died, claimer,
            case when claimer is null then (queue, started_at)::text end as claim
        from jobs
        where status = 'processing' and run_at <= now()
        for update skip locked
    ),
    counted as (
        select lost.*, count(*) over worker as held, count(suspect) over worker as suspects,
            row_number() over (partition by queue, source, kind, key, payload order by created_at desc, id) > 1
            -- a subquery that is executed row by row, by the key
            or coalesce((
                select true from jobs as twin
                where twin.key = lost.key and twin.source = lost.source and twin.queue = lost.queue and twin.kind = lost.kind
                  and twin.payload = lost.payload and twin.status = 'pending'
                limit 1
            ), false) as is_needless
        from lost
        window worker as (partition by claimer, claim)
    ),
    judged as materialized (
        select id, suspect, died, created_at, is_needless,
            held = 1 or (suspects = 1 and suspect is not null) as charged,
            greatest(case when suspect is null then held else suspects end / 2, 1) as batch_limit
        from counted
    ),
    deleted as (
        delete from jobs where id = any (array (select id from judged where is_needless))
    )
    update jobs
    set status = 'pending', snoozes = snoozes + 1, error_message = 'its worker died or lost its lease',
        batch_limit = judged.batch_limit, deaths = least(died, 5) + charged::integer,
        run_at = case
            when suspect is null then least(judged.created_at, now())
            when charged then now() + interval '10 seconds' * (2 ^ least(died, 5) - 1)
            when judged.batch_limit = 1 then now() + interval '10 seconds' * random()
            else now()
        end
    from judged
    where jobs.id = judged.id and not is_needless;
end
$$;

-- Claims up to `batch_size` due jobs, the oldest first; suspects only with suspects; none of a paused queue. A job that was charged with five deaths
-- of workers fails.
create or replace function get_next_job(queue_name text default 'generated_images', batch_size integer default 1, lease interval default '2 minutes')
returns setof jobs
language sql set search_path from current as $$
    select release_lost_jobs() where exists (select from jobs where queue = queue_name and status = 'processing' and run_at <= now());
    with due as materialized (
        -- only a person can have written so large a number of attempts
        select id, run_at, batch_limit, deaths >= 5 or attempts > 1000000 as spent
        from jobs
        where queue = queue_name and status = 'pending' and run_at <= now() and paused_until(queue_name) is null
        order by run_at, id
        limit greatest(batch_size, 1)
        for update skip locked
    ),
    given_up as (
        update jobs
        set status = 'failed', completed_at = now(),
            error_message = case
                when deaths >= 5 then format('its worker died or lost its lease %s times while it had no other job', deaths)
                else format('it was claimed %s times', attempts)
            end
        where id = any (array (select id from due where spent))
    ),
    oldest as materialized (
        select batch_limit from due where not spent order by run_at, id limit 1
    ),
    picked as (
        select id from due
        where not spent and batch_limit is null and exists (select from oldest where oldest.batch_limit is null)
        union all
        (
            select id from due
            where not spent and batch_limit >= (select oldest.batch_limit from oldest)
            order by run_at, id
            limit (select oldest.batch_limit from oldest)
        )
    ),
    claimed as (
        update jobs
        set status = 'processing', attempts = attempts + 1, started_at = now(), run_at = now() + lease,
            claimer = nullif(current_setting('matching_pipeline.claimer', true), '')::integer
        where id = any (array (select id from picked))
        returning *
    )
    select * from claimed order by created_at, id
$$;
