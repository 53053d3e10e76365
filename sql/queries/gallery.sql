-- What the gallery shows.

-- name: gallery_sources
select name, declaration ->> 'table' as "table", attached_at is not null as is_attached, modality, model,
    (select count(*) from matching_pipeline.entities where source = name) as entities,
    (select count(*) from matching_pipeline.items where source = name) as item_count,
    (select count(*) from matching_pipeline.embeddings where source = name and embeddings.model = described.model) as embedded,
    (select count(*) from matching_pipeline.jobs where source = name and status in ('pending', 'processing')) as unfinished,
    (select count(*) from matching_pipeline.jobs where source = name and status = 'failed') as failed
from matching_pipeline.sources
cross join lateral (select matching_pipeline.source_modality(name) as modality, matching_pipeline.source_model(name) as model) as described
order by name

-- name: gallery_source
select name, declaration ->> 'table' as "table", matching_pipeline.source_modality(name) as modality
from matching_pipeline.sources where name = %(source)s

-- name: gallery_matchers
select matchers.name, left_source, right_source, threshold, match_limit, attribute_weight,
    (select count(*) from matching_pipeline.matches where matcher = matchers.name) as pairs
from matching_pipeline.matchers
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = matching_pipeline.settings_model(left_source)
order by matchers.name

-- name: gallery_newest
-- those before a moment, and at that moment before an id
select id, mirrored_at from matching_pipeline.entities
where source = %(source)s
  and (mirrored_at, id) < (%(before)s::timestamptz, coalesce(%(after)s, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid)
order by mirrored_at desc, id desc
limit %(count)s

-- name: gallery_cards
select entities.source, entities.id, entities.key, sources.modality, entities.properties,
    (select count(*) from matching_pipeline.items where items.source = entities.source and items.entity = entities.id) as item_count,
    first.item, first.url, coalesce(first.attributes, '{}') as attributes
from (
    select name, matching_pipeline.source_modality(name) as modality, matching_pipeline.source_model(name) as model
    from matching_pipeline.sources where name = %(source)s
    offset 0
) as sources
join matching_pipeline.entities on entities.source = sources.name
left join lateral (
    select embeddings.item, embeddings.attributes, items.content as url
    from matching_pipeline.items
    join matching_pipeline.embeddings on embeddings.source = items.source and embeddings.item = items.id
    where items.source = entities.source and items.entity = entities.id and embeddings.model = sources.model
      and thumbnail is not null
    order by items.key
    limit 1
) as first on true
where entities.id = any (%(ids)s::uuid[])

-- name: gallery_items
select items.id, items.key, items.content as url, embeddings.attributes, embeddings.thumbnail is not null as has_thumbnail,
    embeddings.model, embeddings.vision_model, embeddings.embedded_at,
    embeddings.input is distinct from items.content as is_outdated
from matching_pipeline.items
left join matching_pipeline.embeddings on embeddings.source = items.source and embeddings.item = items.id
    and embeddings.model = matching_pipeline.source_model(items.source)
where items.source = %(source)s and items.entity = %(id)s
order by items.key

-- name: gallery_jobs
-- of the entity and of its items
select jobs.id, queue, kind, jobs.key, status, attempts - snoozes as attempts, error_message, run_at, created_at, completed_at
from matching_pipeline.jobs
where source = %(source)s and status <> 'completed' and (
    (kind <> 'item' and key = (select key from matching_pipeline.entities where source = %(source)s and id = %(id)s))
    or (kind = 'item' and key in (select key from matching_pipeline.items where source = %(source)s and entity = %(id)s))
)
order by created_at

-- name: gallery_matchers_of
select matchers.name, case when left_source = %(source)s then right_source else left_source end as other,
    matching_pipeline.keeps_lists(matchers, %(source)s) as keeps_list, threshold, match_limit, attribute_weight
from matching_pipeline.matchers
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = matching_pipeline.settings_model(left_source)
where %(source)s in (left_source, right_source)
order by matchers.name

-- name: gallery_list
select listed.*, own_item.embedding <=> other_item.embedding as distance
from (
    select right_id as other, left_item as own_item, right_item as other_item, similarity, left_rank as rank, right_rank as other_rank,
        model, computed_at, left_source as own_source, right_source as other_source
    from matching_pipeline.matches join matching_pipeline.matchers on matchers.name = matches.matcher
    where matcher = %(matcher)s and left_source = %(source)s and left_id = %(id)s
    union all
    select left_id, right_item, left_item, similarity, right_rank, left_rank, model, computed_at, right_source, left_source
    from matching_pipeline.matches join matching_pipeline.matchers on matchers.name = matches.matcher
    where matcher = %(matcher)s and right_source = %(source)s and right_id = %(id)s
    order by rank nulls last, similarity desc, other
    limit %(count)s
) as listed
left join matching_pipeline.embeddings as own_item on own_item.source = own_source and own_item.item = listed.own_item
    and own_item.model = listed.model
left join matching_pipeline.embeddings as other_item on other_item.source = other_source and other_item.item = listed.other_item
    and other_item.model = listed.model
order by rank nulls last, similarity desc, other

-- name: gallery_thumbnail
select thumbnail from matching_pipeline.embeddings
where source = %(source)s and item = %(item)s and thumbnail is not null
order by model = matching_pipeline.source_model(source) desc
limit 1
