-- What the gallery shows.

-- name: gallery_sources
-- each table is counted once for all sources
with entities as (
    select source, count(*) as count from matching_pipeline.entities group by source
), items as (
    select source, count(*) as count from matching_pipeline.items group by source
), embeddings as (
    select source, model, count(*) as count from matching_pipeline.embeddings group by source, model
), jobs as (
    select source, count(*) filter (where status = 'failed') as failed, count(*) filter (where status <> 'failed') as unfinished
    from matching_pipeline.jobs where status in ('pending', 'processing', 'failed') group by source
)
select name, declaration ->> 'table' as "table", attached_at is not null as is_attached, modality, described.model,
    coalesce(entities.count, 0) as entities, coalesce(items.count, vectors.count, 0) as item_count,
    coalesce(embeddings.count, vectors.count, 0) as embedded,
    coalesce(unfinished, 0) as unfinished, coalesce(failed, 0) as failed
from matching_pipeline.sources
cross join lateral (select matching_pipeline.source_modality(name) as modality, matching_pipeline.source_model(name) as model) as described
left join entities on entities.source = name
left join entities as vectors on vectors.source = name and modality = 'vector'
left join items on items.source = name
left join embeddings on embeddings.source = name and embeddings.model = described.model
left join jobs on jobs.source = name
order by name

-- name: gallery_source
select name, declaration ->> 'table' as "table", matching_pipeline.source_modality(name) as modality,
    matching_pipeline.source_model(name) as model
from matching_pipeline.sources where name = %(source)s

-- name: gallery_matchers
select matchers.name, left_source, right_source, threshold, top, attribute_weight,
    coalesce(matches.count, 0) as pairs,
    (
        select count(*) from matching_pipeline.embedding_models
        where modality = matching_pipeline.source_modality(left_source) and modality <> 'vector' and status in ('active', 'shadow')
    ) as models
from matching_pipeline.matchers
left join (select matcher, count(*) as count from matching_pipeline.matches group by matcher) as matches on matches.matcher = matchers.name
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = matching_pipeline.settings_model(left_source)
order by matchers.name

-- name: gallery_newest
-- those before a time, and those of that time before an id
select id, mirrored_at as place from matching_pipeline.entities
where source = %(source)s and (mirrored_at, id) < (%(before)s::timestamptz, %(after)s::uuid)
order by mirrored_at desc, id desc
limit %(count)s

-- name: gallery_unmatched
select id, mirrored_at as place from matching_pipeline.entities
where source = %(source)s and (mirrored_at, id) < (%(before)s::timestamptz, %(after)s::uuid)
  and not (%(are_left)s and exists (select from matching_pipeline.matches where matcher = %(matcher)s and left_id = entities.id))
  and not (%(are_right)s and exists (select from matching_pipeline.matches where matcher = %(matcher)s and right_id = entities.id))
order by mirrored_at desc, id desc
limit %(count)s

-- name: gallery_most_matched
-- those with fewer pairs, and with as many those before an id
select id, count(*) as place
from (
    select left_id as id from matching_pipeline.matches where matcher = %(matcher)s and %(are_left)s
    union all
    select right_id from matching_pipeline.matches where matcher = %(matcher)s and %(are_right)s
) as paired
group by id
having (count(*), id) < (%(before)s::bigint, %(after)s::uuid)
order by count(*) desc, id desc
limit %(count)s

-- name: gallery_with_words
-- words in a picture's attributes or URL, or a property that equals the words
select id, mirrored_at as place from matching_pipeline.entities
where source = %(source)s and (mirrored_at, id) < (%(before)s::timestamptz, %(after)s::uuid) and (
    id in (
        select items.entity
        from matching_pipeline.embeddings join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
        where embeddings.source = %(source)s and embeddings.attributes <> '{}'
          and to_tsvector('simple', embeddings.attributes) @@ websearch_to_tsquery('simple', %(words)s)
    )
    or id in (
        select entity from matching_pipeline.items
        where items.source = %(source)s and content not like 'data:%%' and content ilike all (%(patterns)s::text[])
    )
    or id in (
        select named.id from matching_pipeline.entities as named
        where named.source = %(source)s and named.properties @> any (array(
            select jsonb_build_object(property.name, %(words)s::text)
            from matching_pipeline.sources, jsonb_object_keys(declaration -> 'properties') as property (name) where sources.name = %(source)s
        ))
    )
)
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
-- the jobs of the entity and of its items
select jobs.id, queue, kind, jobs.key, status, attempts - snoozes as attempts, error_message, created_at, completed_at
from matching_pipeline.jobs
where source = %(source)s and status <> 'completed' and (
    (kind <> 'item' and key = (select key from matching_pipeline.entities where source = %(source)s and id = %(id)s))
    or (kind = 'item' and key in (select key from matching_pipeline.items where source = %(source)s and entity = %(id)s))
)
order by created_at

-- name: gallery_matchers_of
select matchers.name, case when left_source = %(source)s then right_source else left_source end as other,
    left_source = %(source)s as are_left, right_source = %(source)s as are_right,
    matching_pipeline.keeps_lists(matchers, %(source)s) as keeps_list, threshold, top, attribute_weight
from matching_pipeline.matchers
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = matching_pipeline.settings_model(left_source)
where %(source)s in (left_source, right_source)
order by matchers.name

-- name: gallery_list
select listed.*, (
        select max(1 - (one <=> other_one))
        from matching_pipeline.vectors_of(own.embedding, own.more, own.halves) as one, matching_pipeline.vectors_of(others.embedding, others.more, others.halves) as other_one
    ) as cosine,
    matching_pipeline.attribute_overlap(own.attributes, others.attributes) as overlap
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
left join lateral (
    select * from matching_pipeline.embedded_items
    where source = own_source and item = listed.own_item and model = matching_pipeline.source_model(own_source) offset 0
) as own on true
left join lateral (
    select * from matching_pipeline.embedded_items
    where source = other_source and item = listed.other_item and model = matching_pipeline.source_model(other_source) offset 0
) as others on true
order by rank nulls last, similarity desc, other

-- name: gallery_picture
select content from matching_pipeline.items where source = %(source)s and id = %(item)s and content like 'file:%%'

-- name: gallery_thumbnail
select thumbnail from matching_pipeline.embeddings
where source = %(source)s and item = %(item)s and thumbnail is not null
order by model = matching_pipeline.source_model(source) desc
limit 1

-- name: gallery_kept
-- the list of an entity, or the entities that list it if its side keeps no lists
select right_id from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
where matcher = %(matcher)s and left_source = %(source)s and left_id = %(id)s and left_rank is not null
union
select left_id from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
where matcher = %(matcher)s and right_source = %(source)s and right_id = %(id)s and right_rank is not null

-- name: gallery_explained
select explained.*,
    (select content from matching_pipeline.items where source = %(left_source)s and items.id = explained.left_item) as left_url,
    (select content from matching_pipeline.items where source = %(right_source)s and items.id = explained.right_item) as right_url
from matching_pipeline.entities as one
join matching_pipeline.entities as other on other.source = %(right_source)s and other.id = %(right)s
cross join lateral matching_pipeline.explain_match(%(matcher)s, one.key, other.key) as explained
where one.source = %(left_source)s and one.id = %(left)s

-- name: gallery_matcher
select matchers.name, left_source, right_source, match_settings.threshold, match_settings.top, match_settings.attribute_weight,
    matching_pipeline.source_model(left_source) as model
from matching_pipeline.matchers
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = matching_pipeline.settings_model(left_source)
where matchers.name = %(matcher)s

-- name: gallery_labels
-- the labels of a pair, which may be in either order if the matcher has one source
select verdict, by, at from matching_pipeline.match_labels
where matcher = %(matcher)s and ((left_key, right_key) = (%(left)s, %(right)s) or (%(within)s and (left_key, right_key) = (%(right)s, %(left)s)))
order by at desc

-- name: gallery_label
insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict, by)
values (%(matcher)s, %(left)s, %(right)s, %(verdict)s, %(by)s)
on conflict on constraint match_labels_pkey do update set verdict = excluded.verdict, at = now()

-- name: gallery_unlabel
delete from matching_pipeline.match_labels
where matcher = %(matcher)s and by = any (%(by)s) and ((left_key, right_key) = (%(left)s, %(right)s) or (%(within)s and (left_key, right_key) = (%(right)s, %(left)s)))

-- name: gallery_entity_of_key
select id from matching_pipeline.entities where source = %(source)s and id = matching_pipeline.key_id(%(key)s) and key = %(key)s

-- name: gallery_dead_letters
-- by reason, without the addresses, ids and quoted texts that differ between rows
select queue, matching_pipeline.reason_of(error_message) as reason, count(*) as jobs, max(completed_at) as newest
from matching_pipeline.jobs where status = 'failed'
group by 1, 2
order by 3 desc, 4 desc
limit 200

-- name: gallery_failed_jobs
select jobs.id, jobs.source, jobs.kind, jobs.key, error_message, jobs.completed_at, attempts - snoozes as attempts,
    items.content as url, coalesce(items.entity, entities.id) as entity
from matching_pipeline.jobs
left join matching_pipeline.items on jobs.kind = 'item' and items.source = jobs.source and items.id = matching_pipeline.key_id(jobs.key)
left join matching_pipeline.entities on jobs.kind <> 'item' and entities.source = jobs.source and entities.id = matching_pipeline.key_id(jobs.key)
where status = 'failed' and queue = %(queue)s and matching_pipeline.reason_of(error_message) = %(reason)s
order by jobs.completed_at desc, jobs.id
limit %(count)s

-- name: gallery_failed_for_reason
select id from matching_pipeline.jobs
where status = 'failed' and queue = %(queue)s and matching_pipeline.reason_of(error_message) = %(reason)s

-- name: gallery_made_picture
select source_url, url from matching_pipeline.generated_images
where source = %(source)s and key = %(key)s and image_type = %(image_type)s

-- name: gallery_unjudged
-- the first pair of those from a random place on that this person has not judged, and otherwise the first before it
select left_id, right_id
from (
    (
        select id, left_id, right_id, 0 as turn from matching_pipeline.matches
        where matcher = %(matcher)s and id >= (select gen_random_uuid()) and not exists (
            select from matching_pipeline.match_labels
            where match_labels.matcher = matches.matcher and by in (%(by)s, 'block') and (
                (match_labels.left_key, match_labels.right_key) = (matches.left_key, matches.right_key)
                or (%(within)s and (match_labels.left_key, match_labels.right_key) = (matches.right_key, matches.left_key))
            )
        )
        order by id limit 1
    )
    union all
    (
        select id, left_id, right_id, 1 from matching_pipeline.matches
        where matcher = %(matcher)s and not exists (
            select from matching_pipeline.match_labels
            where match_labels.matcher = matches.matcher and by in (%(by)s, 'block') and (
                (match_labels.left_key, match_labels.right_key) = (matches.left_key, matches.right_key)
                or (%(within)s and (match_labels.left_key, match_labels.right_key) = (matches.right_key, matches.left_key))
            )
        )
        order by id limit 1
    )
) as unjudged
order by turn
limit 1

-- name: gallery_any_left
select left_id from matching_pipeline.matches where matcher = %(matcher)s and left_rank = 1
order by id < (select gen_random_uuid()), id
limit 1

-- name: gallery_labels_of
select case when left_key = %(key)s then right_key else left_key end as other, verdict, by
from matching_pipeline.match_labels
join matching_pipeline.matchers on matchers.name = matcher
where matcher = %(matcher)s and (
    (left_key = %(key)s and (%(is_left)s or left_source = right_source)) or (right_key = %(key)s and (not %(is_left)s or left_source = right_source))
)

-- name: gallery_queues
-- those of a shadow model if there is one
select each.queue_name as name
from matching_pipeline.queues cross join lateral matching_pipeline.model_queues(queues.name) as each
where queues.work in ('image', 'text')
union all
select name from matching_pipeline.queues where work not in ('image', 'text')
order by name

-- name: gallery_latency
-- from the app's change to the match, by the minute in which it was done
select floor(extract(epoch from now() - completed_at) / 60)::integer as minutes_ago, count(*) as jobs,
    percentile_disc(0.5) within group (order by extract(epoch from completed_at - caused_at))::double precision as middle,
    percentile_disc(0.95) within group (order by extract(epoch from completed_at - caused_at))::double precision as slow
from matching_pipeline.jobs
join matching_pipeline.queues on queues.name = jobs.queue and queues.work = 'match'
where status = 'completed' and completed_at > now() - interval '1 hour' and isfinite(caused_at)
group by 1
order by 1 desc

-- name: gallery_latency_of_hour
select count(*) as jobs,
    percentile_disc(0.5) within group (order by extract(epoch from completed_at - caused_at))::double precision as middle,
    percentile_disc(0.95) within group (order by extract(epoch from completed_at - caused_at))::double precision as slow
from matching_pipeline.jobs
join matching_pipeline.queues on queues.name = jobs.queue and queues.work = 'match'
where status = 'completed' and completed_at > now() - interval '1 hour' and isfinite(caused_at)

-- name: gallery_spent_today
select coalesce(sum(spent_usd), 0) as spent from matching_pipeline.ai_spending where day = (now() at time zone 'utc')::date

-- name: gallery_asked_today
-- answers that were found in the cache, and inputs that were asked of a provider
select
    (select coalesce(sum(answers), 0) from matching_pipeline.ai_cache_hits where day = (now() at time zone 'utc')::date) as hits,
    (
        select coalesce(sum(items), 0) from matching_pipeline.ai_calls
        where outcome = 'answered' and created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'
    ) as inputs

-- name: gallery_packs
select source, key, max(created_at) as newest, min(source_url) as photo, min(image_type) as one_type, sum(cost_usd) as cost
from matching_pipeline.generated_images
group by source, key
having max(created_at) < %(before)s::timestamptz
order by newest desc
limit %(count)s

-- name: gallery_pack
select image_type, url, width, height, model, cost_usd, created_at
from matching_pipeline.generated_images where source = %(source)s and key = %(key)s

-- name: gallery_pack_jobs
select status, error_message, payload -> 'image_types' as types
from matching_pipeline.jobs join matching_pipeline.queues on queues.name = queue and work = 'generate'
where source = %(source)s and key = %(key)s and status <> 'completed'

-- name: gallery_image_types
select name, enabled from matching_pipeline.image_types order by position, name

-- name: gallery_ask_again
-- in the queue that has had jobs of the source, otherwise in any that makes pictures
select matching_pipeline.request_pictures(name, %(source)s, %(kind)s, %(key)s, %(asked)s)
from (
    select queues.name from matching_pipeline.queues
    where work = 'generate'
    order by exists (select from matching_pipeline.jobs where jobs.key = %(key)s and jobs.source = %(source)s and queue = queues.name) desc, name
    limit 1
) as asking

-- name: gallery_near
select id, similarity from matching_pipeline.find_near(%(source)s, %(sought)s, %(count)s)
