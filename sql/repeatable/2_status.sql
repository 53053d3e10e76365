-- The state of a queue.

-- For a sensor or a worker: may a job be claimed, when may the next be, how many are due (up to a thousand), how many workers are
-- alive. It reads only indexes.
create or replace function queue_state(
    queue_name text, out due boolean, out next_run_at timestamptz, out waiting integer, out workers integer, out paused boolean
)
language sql stable set search_path from current as $$
    select coalesce(earliest.run_at <= now(), false), earliest.run_at, ready.waiting, alive.workers, earliest.paused
    from (
        select greatest(min(run_at), paused_until(queue_name)) as run_at, paused_until(queue_name) is not null as paused
        from jobs where queue = queue_name and status in ('pending', 'processing')
    ) as earliest,
    (
        select count(*)::integer as waiting from (
            select from jobs where queue = queue_name and status in ('pending', 'processing') and run_at <= now()
            -- reads the index, however many rows of the table are due
            order by run_at
            limit 1000
        ) as due_now
    ) as ready,
    (
        select count(*)::integer as workers from pg_locks
        where locktype = 'advisory' and granted and objsubid = 2
          and database = (select oid from pg_database where datname = current_database())
          and classid::bigint = queue_lock(queue_name)::bigint & x'ffffffff'::bigint
    ) as alive
$$;

-- How many jobs of the queue are in which state, and how old the oldest is; for people and dashboards, also as an RPC.
create or replace function queue_status(queue_name text) returns jsonb
language sql stable set search_path from current as $$
    select jsonb_build_object(
        'pending', unfinished.pending,
        'retries', unfinished.retries,
        'message', format('%s jobs pending %s', unfinished.pending, coalesce((
            select case work
                when 'image' then 'image analysis' when 'text' then 'embedding generation'
                when 'match' then 'matching' when 'derive' then 'derivation' when 'publish' then 'publishing' else 'image generation'
            end || case when name = queue_name then '' else ' by the shadow model' end
            from queues where name in (queue_name, regexp_replace(queue_name, '_shadow$', ''))
            limit 1
        ), queue_name)),
        'due', unfinished.due,
        'paused_until', paused_until(queue_name),
        'processing', unfinished.processing,
        'failed', (select count(*) from jobs where queue = queue_name and status = 'failed'),
        'oldest_pending_seconds', unfinished.oldest_pending_seconds,
        'completed_per_minute', (
            select count(*) / 10.0 from jobs
            where queue = queue_name and status = 'completed' and completed_at > now() - interval '10 minutes'
        )
    )
    from (
        select
            count(*) filter (where status = 'pending') as pending,
            count(*) filter (where status = 'pending' and attempts > snoozes) as retries,
            count(*) filter (where run_at <= now()) as due,
            count(*) filter (where status = 'processing') as processing,
            round(extract(epoch from now() - min(created_at) filter (where status = 'pending' and isfinite(created_at))), 3) as oldest_pending_seconds
        from jobs
        where queue = queue_name and status in ('pending', 'processing')
    ) as unfinished
$$;
