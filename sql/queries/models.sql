-- name: queue_model
select matching_pipeline.queue_model(%(queue)s)

-- name: queue_work
select work from matching_pipeline.queues where name = %(queue)s

-- name: queues_of_work
select name from matching_pipeline.queues where work = %(work)s order by name

-- name: register_first_model
insert into matching_pipeline.embedding_models (name, modality, dimensions, status)
values (%(name)s, %(modality)s, %(dimensions)s, 'active')
on conflict do nothing

-- name: registered_model
select modality, dimensions, status from matching_pipeline.embedding_models where name = %(name)s

-- name: registered_models
select name, modality, dimensions, status from matching_pipeline.embedding_models
where modality in ('image', 'text')
order by modality, array_position(array['active', 'shadow', 'retired'], status), name

-- name: model_coverage
select min(what) as what, sum(rows)::bigint as rows, sum(covered)::bigint as covered, sum(waiting)::bigint as waiting,
    sum(failed_for_good)::bigint as failed_for_good, sum(unaccounted)::bigint as unaccounted
from matching_pipeline.queues
cross join lateral matching_pipeline.queue_coverage(queues.name || %(suffix)s)
where work = %(modality)s

-- name: hold_role
select status from matching_pipeline.embedding_models where name = %(name)s for share skip locked

-- name: lock_models
select name, status from matching_pipeline.embedding_models where modality = %(modality)s order by name for no key update

-- name: add_shadow
insert into matching_pipeline.embedding_models (name, modality, dimensions, status)
values (%(name)s, %(modality)s, %(dimensions)s, 'shadow')
on conflict (name) do update set status = 'shadow'

-- name: set_status
update matching_pipeline.embedding_models set status = %(status)s where name = %(name)s

-- name: models_to_probe
-- once a day
select name, modality from matching_pipeline.embedding_models
where modality in ('image', 'text') and status in ('active', 'shadow') and not exists (
    select from matching_pipeline.model_probes where model = name and looked_at > now() - interval '23 hours'
)
order by name

-- name: keep_probe
insert into matching_pipeline.model_probes (model, probe, embedding, least)
values (%(model)s, %(probe)s, %(embedding)s, %(least)s)
on conflict (model, probe) do nothing

-- name: kept_probe
select embedding from matching_pipeline.model_probes where model = %(model)s and probe = %(probe)s

-- name: note_probe
update matching_pipeline.model_probes set similarity = %(similarity)s, least = %(least)s, looked_at = now()
where model = %(model)s and probe = %(probe)s

-- name: probes_of_queue
-- the probes of the queue's active model and of its shadow
select model_probes.model, probe, similarity, least, kept_at, looked_at
from matching_pipeline.model_queues(%(queue)s) as working
join matching_pipeline.model_probes on model_probes.model = working.model
order by model_probes.model, probe

-- name: set_threshold
update matching_pipeline.match_settings set threshold = %(threshold)s where matcher = %(matcher)s and model = %(model)s

-- name: entities_with_matches
-- entities of two sources that have the same key have the same id
select md5(left_source || left_id)::uuid
from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
where matcher = %(matcher)s and left_rank is not null
union
select md5(right_source || right_id)::uuid
from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
where matcher = %(matcher)s and right_rank is not null

-- name: enqueue_missing_of_modality
select coalesce(sum(matching_pipeline.enqueue_missing(name)), 0)::integer from matching_pipeline.queues where work = %(modality)s

-- name: exchange_queues
update matching_pipeline.jobs set queue = case queue when %(queue)s then %(shadow_queue)s else %(queue)s end
where queue in (%(queue)s, %(shadow_queue)s) and status <> 'completed'

-- name: items_lacking_shadow
select count(*)
from matching_pipeline.queues
cross join lateral matching_pipeline.item_states(queues.name) as active
cross join lateral matching_pipeline.item_states(queues.name || '_shadow') as shadow
where active.source = shadow.source and active.key = shadow.key and work = %(modality)s and active.up_to_date and not shadow.up_to_date

-- name: has_rows_of_retired
select exists (
    select from matching_pipeline.embeddings
    join matching_pipeline.embedding_models on name = model
    where model = %(name)s and status = 'retired'
)

-- name: forget_rows_of_model
-- some of those whose entities no other session has locked
with found as materialized (
    select entities.source, entities.id
    from matching_pipeline.embeddings
    join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
    join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity
    where model = %(name)s
    limit %(size)s
    for update of entities skip locked
)
delete from matching_pipeline.embeddings
using matching_pipeline.items, found
where embeddings.model = %(name)s and items.source = embeddings.source and items.id = embeddings.item
  and items.source = found.source and items.entity = found.id

-- name: forget_queue
delete from matching_pipeline.jobs
where id = any (array (select id from matching_pipeline.jobs where queue = %(queue)s for update skip locked))

-- name: forget_jobs_of_no_model
delete from matching_pipeline.jobs
where id = any (array (
    select id from matching_pipeline.jobs
    where queue = any (array (
        select name || '_shadow' from matching_pipeline.queues
        where work in ('image', 'text') and matching_pipeline.queue_model(name || '_shadow') is null
    ))
    for update skip locked
))

-- name: current_model
select name from matching_pipeline.embedding_models where modality = %(modality)s and status = %(status)s

-- name: forget_probes
-- a model that is added again may be another model with the same name
delete from matching_pipeline.model_probes where model = %(name)s
