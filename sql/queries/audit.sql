-- The faults of the derived tables: each query gives the number of rows, and the first few of them.

-- name: mixed_model_matches
select count(*) over (), matches.left_key, matches.right_key, matches.model
from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
where matches.matcher = %(matcher)s and matches.model is distinct from matching_pipeline.source_model(left_source)
order by 2, 3
limit %(count)s

-- name: keys_of_entities
select id, key from matching_pipeline.entities where source = %(source)s and id = any (%(ids)s::uuid[])

-- name: missing_embeddings
select count(*) over (), states.source, states.key, each.queue_name
from matching_pipeline.queues
cross join lateral matching_pipeline.model_queues(queues.name) as each
cross join lateral matching_pipeline.item_states(each.queue_name) as states
where queues.name = %(queue)s and not up_to_date and not waiting and not failed and not exists (
    select from matching_pipeline.embeddings
    where source = states.source and item = matching_pipeline.key_id(states.key) and model = each.model
)
order by each.queue_name, states.source, states.key
limit %(count)s

-- name: stale_embeddings
select count(*) over (), states.source, states.key, each.queue_name
from matching_pipeline.queues
cross join lateral matching_pipeline.model_queues(queues.name) as each
cross join lateral matching_pipeline.item_states(each.queue_name) as states
where queues.name = %(queue)s and not up_to_date and not waiting and not failed and exists (
    select from matching_pipeline.embeddings
    where source = states.source and item = matching_pipeline.key_id(states.key) and model = each.model
)
order by each.queue_name, states.source, states.key
limit %(count)s

-- name: jobs_of_source
select kind, key, bool_and(status = 'failed') as failed from matching_pipeline.jobs
where source = %(source)s and status <> 'completed' and kind not in ('publication', 'status', 'status_of_item')
group by kind, key

-- name: mirrored_keys
select key from matching_pipeline.entities where source = %(source)s and id = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])
union
select key from matching_pipeline.items where source = %(source)s and id = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])

-- name: mixed_model_embeddings
select count(*) over (), embeddings.source, items.key, embeddings.model
from matching_pipeline.embeddings
join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
join matching_pipeline.embedding_models on embedding_models.name = embeddings.model
join matching_pipeline.sources on sources.name = embeddings.source and %(queue)s = any (sources.queues)
join matching_pipeline.queues on queues.name = %(queue)s
where embedding_models.status = 'retired' or embedding_models.modality <> queues.work
order by embeddings.source, items.key, embeddings.model
limit %(count)s

-- name: forget_embeddings_of_no_role
delete from matching_pipeline.embeddings
using matching_pipeline.embedding_models, matching_pipeline.sources, matching_pipeline.queues
where embedding_models.name = embeddings.model and sources.name = embeddings.source and queues.name = %(queue)s
  and queues.name = any (sources.queues)
  and (embedding_models.status = 'retired' or embedding_models.modality <> queues.work)
