-- The inputs of the definition of `matches`, without the views and functions that the matchers themselves read.

-- name: sampled_entities
select source, id
from (
    select source, id from matching_pipeline.entities where source = any (%(keepers)s)
    union
    select %(left)s, left_id from matching_pipeline.matches where matcher = %(matcher)s and left_rank is not null
    union
    select %(right)s, right_id from matching_pipeline.matches where matcher = %(matcher)s and right_rank is not null
) as listed
order by hashtextextended(id::text, %(seed)s), source, id
limit %(count)s

-- name: defining_items
-- the embedded items of these entities, or of all; the user and the key count as properties
select entity, item, part.embedding, attributes, properties
    || jsonb_build_object(sources.declaration ->> 'key', entity_key)
    || case when sources.declaration ->> 'user' is null then '{}' else jsonb_build_object(sources.declaration ->> 'user', user_key) end
from matching_pipeline.embedded_items
join matching_pipeline.sources on sources.name = source
join matching_pipeline.embedding_models on embedding_models.name = model
cross join matching_pipeline.vectors_of(embedding, more, halves) as part (embedding)
where source = %(source)s and embedding_models.status = 'active' and (%(ids)s::uuid[] is null or entity = any (%(ids)s::uuid[]))

-- name: excepted_values
select left_value, right_value from matching_pipeline.excepted_values(%(matcher)s)

-- name: stored_lists
select left_id, right_id, similarity, left_item, right_item, left_rank
from matching_pipeline.matches
where %(are_left)s and matcher = %(matcher)s and left_id = any (%(ids)s::uuid[]) and left_rank is not null
union all
select right_id, left_id, similarity, right_item, left_item, right_rank
from matching_pipeline.matches
where %(are_right)s and matcher = %(matcher)s and right_id = any (%(ids)s::uuid[]) and right_rank is not null

-- name: unfinished_jobs
select queue, count(*) from matching_pipeline.jobs where status in ('pending', 'processing') group by queue order by queue
