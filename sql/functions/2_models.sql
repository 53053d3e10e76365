-- The model that works for a queue: the active model of a modality for the queue of the same handler, and the shadow, if
-- there is one, for `<queue>_shadow`. A shadow that is slow or fails does not hold up the active model.

create or replace function queue_model(queue_name text) returns text
language sql stable as $$
    select name from embedding_models
    where modality = case split_part(queue_name, '_shadow', 1) when 'image_ai' then 'image' when 'job_embeddings' then 'text' end
      and status = case when queue_name like '%\_shadow' then 'shadow' else 'active' end
$$;

-- The queue of a handler, also before its first model, and the queue of the shadow if there is one.
create or replace function model_queues(main_queue text) returns table (queue_name text, model text)
language sql stable as $$
    select main_queue, queue_model(main_queue)
    union all
    select shadow.queue, queue_model(shadow.queue) from (values (main_queue || '_shadow')) as shadow (queue)
    where queue_model(shadow.queue) is not null
$$;

-- Enqueues the same for the active model and for the shadow. So both have the jobs of a transaction that is open while the
-- two models change places. Returns the number of jobs for the active model.
create or replace function enqueue_for_models(main_queue text, kind text, ids uuid[]) returns integer
language sql as $$
    select enqueued from (
        select queue_name, enqueue_jobs(queue_name, kind, ids) as enqueued from model_queues(main_queue) offset 0
    ) as each
    order by queue_name = main_queue desc limit 1
$$;
