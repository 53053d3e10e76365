-- Returns the model that does the jobs of a queue. For the queue of an asset that is the active model of its modality (image or
-- text). For `<queue>_shadow` it is the shadow, or null. Two queues keep a slow or failing shadow from delaying the active model.

create or replace function queue_model(queue_name text) returns text
language sql stable set search_path from current as $$
    select embedding_models.name
    from queues
    join embedding_models on embedding_models.modality = queues.work
        and embedding_models.status = case when queues.name = queue_name then 'active' else 'shadow' end
    where queues.name in (queue_name, regexp_replace(queue_name, '_shadow$', ''))
    limit 1
$$;

-- The queue of an embeddings asset, even when it has no model yet, and the queue of the shadow if there is one.
create or replace function model_queues(main_queue text) returns table (queue_name text, model text)
language sql stable set search_path from current as $$
    select main_queue, queue_model(main_queue)
    union all
    select shadow.queue, queue_model(shadow.queue) from (values (main_queue || '_shadow')) as shadow (queue)
    where queue_model(shadow.queue) is not null
$$;

-- Enqueues the keys for the active model and for the shadow. If a transaction is open while `model activate` exchanges the two,
-- its jobs are there for whichever is active afterwards. Returns the number of jobs for the active model.
create or replace function enqueue_for_models(main_queue text, source_name text, job_kind text, keys text[]) returns integer
language sql set search_path from current as $$
    select enqueued from (
        select queue_name, enqueue_jobs(queue_name, source_name, job_kind, keys) as enqueued
        from model_queues(main_queue) offset 0
    ) as each
    order by queue_name = main_queue desc limit 1
$$;
