-- name: hold_worker_requests
-- one sensor decides at a time
select pg_try_advisory_xact_lock(matching_pipeline.worker_lock(), 0)

-- name: has_worker
select from matching_pipeline.workers where id = %(id)s

-- name: worker_states
-- For some seconds after a restart of the server each worker counts as alive: its session is not open again yet.
select id, version, helps, run_id, failures,
    entered_at is not null as entered,
    extract(epoch from clock_timestamp() - requested_at)::double precision as requested_seconds,
    extract(epoch from clock_timestamp() - started_at)::double precision as age_seconds,
    started_at is not null and (
        clock_timestamp() - pg_postmaster_start_time() < interval '15 seconds'
        or exists (
            select from pg_locks
            where locktype = 'advisory' and granted and objsubid = 2
              and database = (select oid from pg_database where datname = current_database())
              and classid::bigint = matching_pipeline.worker_lock()::bigint & x'ffffffff'::bigint and objid::bigint = workers.id
        )
    ) as alive
from matching_pipeline.workers
order by id

-- name: request_worker
insert into matching_pipeline.workers (version, helps) values (%(version)s, %(helps)s) returning id

-- name: start_worker
update matching_pipeline.workers set run_id = %(run_id)s, started_at = now() where id = %(id)s and started_at is null returning id

-- name: hold_worker
select pg_try_advisory_lock(matching_pipeline.worker_lock(), %(id)s)

-- name: mark_worker_entered
update matching_pipeline.workers set entered_at = now() where id = %(id)s

-- name: mark_worker_failures
update matching_pipeline.workers set failures = %(failures)s where id = %(id)s

-- name: delete_workers
delete from matching_pipeline.workers where id = any (%(ids)s)

-- name: delete_requested_workers
delete from matching_pipeline.workers where started_at is null

-- name: hold_daemon
select pg_try_advisory_lock(matching_pipeline.worker_lock(), -1)

-- name: daemon_holder
select application_name as name, backend_start as since
from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and objsubid = 2
  and database = (select oid from pg_database where datname = current_database())
  and (classid, objid) = (matching_pipeline.worker_lock()::text::oid, (-1)::text::oid)
  -- a session of another role is not visible
  and backend_start is not null
