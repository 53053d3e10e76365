-- name: enqueue
select enqueue_jobs(%(queue)s, %(kind)s, %(ids)s)

-- name: claim
select id, entity_kind, entity_id, payload, attempts as attempt
from get_next_job(%(queue)s, %(batch_size)s, %(lease)s)

-- name: renew
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where mark_job_processing(id, attempt, %(lease)s)

-- name: complete
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where mark_job_completed(id, attempt)

-- name: fail
select mark_job_failed(%(id)s, %(attempt)s, %(reason)s, %(permanent)s)

-- name: snooze
select id from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as leases (id, attempt)
where snooze_job(id, attempt, %(delay)s, %(reason)s)

-- name: snooze_queue
select snooze_queue(%(queue)s, %(delay)s, %(reason)s)

-- name: retry
select retry_jobs(%(queue)s, %(ids)s)

-- name: purge
select purge_completed_jobs(%(keep)s)

-- name: take_worker_slot
select take_worker_slot(%(queue)s, %(slots)s)

-- name: queue_state
select due, next_run_at, extract(epoch from next_run_at - clock_timestamp())::double precision as seconds_to_next, waiting, workers
from queue_state(%(queue)s)

-- name: listen
listen job_queue

-- name: do_not_compile
-- a worker's statement is over before its plan would be compiled
select set_config('jit', 'off', false)

-- name: notify_workers
select pg_notify('job_queue', %(payload)s)

-- name: limit_lock_waits
select set_config('lock_timeout', %(limit)s, true)

-- name: check_what_is_deferred
set constraints all immediate

-- name: queue_status
select queue_status(%(queue)s)

-- name: unfinished_items
select id from job_queue
where queue = %(queue)s and status in ('pending', 'processing') and (status = 'processing' or run_at <= now())
  and (%(ids)s::uuid[] is null or id = any (%(ids)s::uuid[]))

-- name: failed_items
select id from job_queue where queue = %(queue)s and status = 'failed' and id = any (%(ids)s::uuid[])

-- name: leased_items
select count(*) as items, max(run_at) as until
from job_queue
where queue = %(queue)s and status = 'processing' and run_at > now() and id = any (%(ids)s::uuid[])
