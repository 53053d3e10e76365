-- name: enqueue
select matching_pipeline.enqueue_jobs(%(queue)s, %(source)s, %(kind)s, %(keys)s)

-- name: claim
-- a client may not be able to read a date that a person wrote by hand
select id, source, kind, key, payload, attempts as attempt, least(greatest(caused_at, now() - interval '10 years'), now()) as caused_at
from matching_pipeline.get_next_job(%(queue)s, %(batch_size)s, %(lease)s)

-- name: renew
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where matching_pipeline.mark_job_processing(id, attempt, %(lease)s)

-- name: complete
select id from matching_pipeline.complete_jobs(%(ids)s, %(attempts)s) as id

-- name: standing_jobs
select id from matching_pipeline.jobs where id = any (%(ids)s::uuid[])

-- name: fail
select matching_pipeline.mark_job_failed(%(id)s, %(attempt)s, %(reason)s, %(permanent)s)

-- name: snooze
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where matching_pipeline.snooze_job(id, attempt, %(delay)s, %(reason)s)

-- name: suspect
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where matching_pipeline.suspect_job(id, attempt, %(limit_of_batch)s, %(reason)s)

-- name: snooze_queue
select matching_pipeline.snooze_queue(%(queue)s, %(delay)s, %(reason)s)

-- name: retry
select matching_pipeline.retry_jobs(%(queue)s, %(ids)s)

-- name: purge
select matching_pipeline.purge_completed_jobs(%(keep)s)

-- name: take_worker_slot
select matching_pipeline.take_worker_slot(%(queue)s, %(slots)s)

-- name: enter_as_claimer
select matching_pipeline.enter_as_claimer(%(claimer)s)

-- name: look_at_session
select 1

-- name: cut_leases_of_dead_workers
select matching_pipeline.cut_leases_of_dead_workers()

-- name: queue_state
-- a person may park a job by the date `infinity`, which cannot be subtracted from before version 17
select due, case when isfinite(next_run_at) then extract(epoch from next_run_at - clock_timestamp())::double precision end as seconds_to_next,
    waiting, workers, matching_pipeline.is_announced(%(queue)s) as announced, paused
from matching_pipeline.queue_state(%(queue)s)

-- name: queue_pause
select paused_by, paused_at::text, nullif(pause_end, 'infinity')::text as pause_end
from matching_pipeline.pauses where queue = %(queue)s and pause_end > now()

-- name: pause_queue
select matching_pipeline.pause_queue(%(queue)s, %(pause_end)s::timestamptz, %(paused_by)s)

-- name: resume_queue
select matching_pipeline.resume_queue(%(queue)s)

-- name: listen
listen matching_pipeline_jobs

-- name: switch_off_compilation
-- a worker's statement is over before its plan would be compiled
select set_config('jit', 'off', false)

-- name: notify_workers
select pg_notify('matching_pipeline_jobs', %(payload)s)

-- name: limit_lock_waits
select set_config('lock_timeout', %(limit)s, true)

-- name: prepare_commit
-- transactions that notify commit one after another, each as slowly as the disk or a standby
set constraints all immediate;
set local lock_timeout = '5s'

-- name: queue_status
select matching_pipeline.queue_status(%(queue)s)

-- name: unfinished_jobs_of_queue
select id from matching_pipeline.jobs
where queue = %(queue)s and status in ('pending', 'processing') and (status = 'processing' or run_at <= now())
  and (%(ids)s::uuid[] is null or id = any (%(ids)s::uuid[]))

-- name: jobs_left
-- those that are due, and those that a failure has put off
select count(*) as jobs, to_char(min(run_at) at time zone 'utc', 'HH24:MI:SS') as until,
    (array_agg(error_message order by started_at desc nulls last) filter (where error_message is not null))[1] as reason
from matching_pipeline.jobs
where queue = %(queue)s and status = 'pending' and (run_at <= now() or error_message is not null) and id = any (%(ids)s::uuid[])

-- name: failed_jobs
select id from matching_pipeline.jobs where queue = %(queue)s and status = 'failed' and id = any (%(ids)s::uuid[])

-- name: hasten_publishing
-- a publication whose table had a fault waits for a minute
update matching_pipeline.jobs set run_at = now() where queue = 'publishing' and status = 'pending' and run_at > now()

-- name: failed_because
select id from matching_pipeline.jobs
where queue = %(queue)s and status = 'failed' and strpos(lower(coalesce(error_message, '')), lower(%(because)s)) > 0

-- name: leased_jobs
select count(*) as jobs, max(run_at) as until
from matching_pipeline.jobs
where queue = %(queue)s and status = 'processing' and run_at > now() and id = any (%(ids)s::uuid[])

-- name: workers_alive
select count(*) from pg_locks
where locktype = 'advisory' and granted and objsubid = 2
  and database = (select oid from pg_database where datname = current_database())
  and classid::bigint in (
      select matching_pipeline.queue_lock(queue)::bigint & x'ffffffff'::bigint
      from (
          select name as queue from matching_pipeline.queues
          union all
          select name || '_shadow' from matching_pipeline.queues
      ) as each
  )
