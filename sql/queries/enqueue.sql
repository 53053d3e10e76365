-- name: enqueue_entities
-- one row for each key; the answer is null if there is no such entity
select key, case when exists (
    select from matching_pipeline.read_source(%(source)s, 'entity', array[asked.key]) where applies
) then matching_pipeline.enqueue_entity(%(source)s, key) end
from unnest(%(keys)s::text[]) as asked (key)

-- name: enqueue_missing
select matching_pipeline.enqueue_missing(%(queue)s)

-- name: enqueue_looks
select matching_pipeline.enqueue_looks(%(age)s)

-- name: enqueue_resync
-- a job of each queue compares the whole table with the mirror
select matching_pipeline.enqueue_keys(name, 'table', array['']) from matching_pipeline.sources
where %(source)s::text is null or name = %(source)s

-- name: enqueue_due_resyncs
with due as (
    update matching_pipeline.sources set compared_at = now()
    where compared_at < now() - interval '1 day'
    returning name
)
select name from due, lateral (select matching_pipeline.enqueue_keys(name, 'table', array[''])) as enqueued

-- name: generating_queue
select queues.name from matching_pipeline.queues where work = 'generate' limit 1

-- name: orphaned_jobs
-- jobs of queues that are no longer declared
delete from matching_pipeline.jobs
where source not in (select name from matching_pipeline.sources)
