-- name: models_of_matcher
-- the active model first
select models.name, status
from matching_pipeline.matchers
cross join lateral (select matching_pipeline.source_modality(left_source) as modality) as left_side
join matching_pipeline.embedding_models as models on models.modality = left_side.modality and (
    (status = 'active' and models.name = matching_pipeline.source_model(left_source)) or status = 'shadow'
)
where matchers.name = %(matcher)s
order by status

-- name: labelled_listings
-- the labelled pairs whose two entities the model has embedded, by each entity that keeps a list
with labelled as (
    select left_source, right_source, matchers, pair.left_id, pair.right_id, avg(verdict)::double precision as grade
    from matching_pipeline.match_labels
    join matching_pipeline.matchers on matchers.name = matcher
    cross join lateral (select matching_pipeline.key_id(left_key) as left_id, matching_pipeline.key_id(right_key) as right_id) as said
    cross join lateral (
        select case when left_source = right_source then least(said.left_id, said.right_id) else said.left_id end as left_id,
            case when left_source = right_source then greatest(said.left_id, said.right_id) else said.right_id end as right_id
    ) as pair
    where matcher = %(matcher)s
    group by left_source, right_source, matchers, pair.left_id, pair.right_id
), listings as (
    select labelled.*, left_rank, right_rank
    from labelled
    left join matching_pipeline.matches on matches.matcher = %(matcher)s
        and matches.left_id = labelled.left_id and matches.right_id = labelled.right_id
    where matching_pipeline.has_embedding(left_source, labelled.left_id, coalesce(%(model)s, matching_pipeline.source_model(left_source)))
      and matching_pipeline.has_embedding(right_source, labelled.right_id, coalesce(%(model)s, matching_pipeline.source_model(right_source)))
)
select left_source, left_id, right_id, grade, coalesce(left_rank, 0) from listings
union all
select right_source, right_id, left_id, grade, coalesce(right_rank, 0) from listings
where matching_pipeline.keeps_lists(matchers, right_source)

-- name: labels_apart
select count(*)
from matching_pipeline.match_labels
left join matching_pipeline.matchers on matchers.name = matcher
where (
    matching_pipeline.has_embedding(left_source, matching_pipeline.key_id(left_key), matching_pipeline.source_model(left_source))
    and matching_pipeline.has_embedding(right_source, matching_pipeline.key_id(right_key), matching_pipeline.source_model(right_source))
) is not true

-- name: entities_to_compare
-- by source: the labelled ones first, then whole blocks in an order that looks random
with labelled as (
    select left_source as source, matching_pipeline.key_id(left_key) as id
    from matching_pipeline.match_labels join matching_pipeline.matchers on name = matcher where name = %(matcher)s
    union
    select right_source, matching_pipeline.key_id(right_key)
    from matching_pipeline.match_labels join matching_pipeline.matchers on name = matcher where name = %(matcher)s
), ordered as (
    select source, id, properties, row_number() over (
        partition by source order by (source, id) in (select source, id from labelled) desc, md5(same::text), md5(id::text)
    ) as place
    from matching_pipeline.matchable_entities(%(matcher)s)
    where %(model)s::text is null or matching_pipeline.has_embedding(source, id, %(model)s)
)
select source, id, properties from ordered where place <= %(size)s order by source, place

-- name: named_items
select items.id, entities.key, items.content
from matching_pipeline.items
join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity
where items.source = %(source)s and items.id = any (%(ids)s::uuid[])

-- name: items_to_embed
select items.source, entity, items.id, items.key, case when declaration ->> 'pictures' is null then 'entity' else 'item' end as kind
from matching_pipeline.items
join matching_pipeline.sources on sources.name = items.source
where items.source = %(source)s and entity = any (%(ids)s::uuid[])
order by entity, items.id
