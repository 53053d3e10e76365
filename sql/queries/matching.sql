-- The lock on the lists of a matcher, a readers-writer lock with a turnstile: matching_pipeline/matches/locks.py explains it.

-- name: pass_turnstile
select pg_advisory_lock_shared(hashtext('matching_pipeline.matches_turnstile.' || %(matcher)s))

-- name: leave_turnstile
select pg_advisory_unlock_shared(hashtext('matching_pipeline.matches_turnstile.' || %(matcher)s))

-- name: try_take_lists
select case when pg_try_advisory_xact_lock(hashtext('matching_pipeline.matches_turnstile.' || %(matcher)s))
    then pg_try_advisory_xact_lock(hashtext('matching_pipeline.matches.' || %(matcher)s)) else false end

-- name: take_lists
select pg_advisory_lock(hashtext('matching_pipeline.matches.' || %(matcher)s))

-- name: release_lists
select pg_advisory_unlock(hashtext('matching_pipeline.matches.' || %(matcher)s))

-- name: share_lists
select pg_advisory_lock_shared(hashtext('matching_pipeline.matches.' || %(matcher)s))

-- name: try_share_lists
select pg_try_advisory_lock_shared(hashtext('matching_pipeline.matches.' || %(matcher)s))

-- name: release_shared_lists
select pg_advisory_unlock_shared(hashtext('matching_pipeline.matches.' || %(matcher)s))

-- name: skip_matching
select set_config('matching_pipeline.skip_matching', 'on', true)

-- name: matcher_state
-- the numbers of the model that is asked for, or of the active one; the active models of both sources; what the left one embeds
select coalesce(threshold, (declaration ->> 'threshold')::double precision), coalesce(top, (declaration ->> 'top')::integer),
    coalesce(attribute_weight, (declaration ->> 'attribute_weight')::double precision), left_model, right_model, modality
from matching_pipeline.matchers
cross join lateral (
    select matching_pipeline.source_model(left_source) as left_model, matching_pipeline.source_model(right_source) as right_model,
        matching_pipeline.source_modality(left_source) as modality
) as sides
left join matching_pipeline.match_settings on match_settings.matcher = matchers.name
    and match_settings.model = coalesce(%(model)s, left_model, case modality when 'vector' then left_source else '' end)
where matchers.name = %(matcher)s

-- name: matchers_of_modality
select name from matching_pipeline.matchers where matching_pipeline.source_modality(left_source) = %(modality)s

-- name: block_sizes
select same, count(*) from matching_pipeline.matchable_entities(%(matcher)s) group by same

-- name: copy_items
copy (
    select entity, item, part.sent, attributes::text
    from matching_pipeline.embedded_items
    -- each vector in its own binary form, as COPY would send it: a halfvec takes half the bytes
    cross join lateral (
        select coalesce(vector_send(embedding), halfvec_send(halves[1])) as sent
        union all select vector_send(further) from unnest(more) as further where %(divided)s
        union all select halfvec_send(further) from unnest(halves[2:]) as further where %(divided)s
    ) as part
    where source = %(source)s and model = %(model)s
      and (%(block)s::jsonb = '{}' or properties @> %(block)s::jsonb)
      and (%(never_same)s::text is null or entity in (
          select id from matching_pipeline.entity_values(%(source)s, %(never_same)s) where value is not null
      ))
      and (%(first)s::uuid is null or entity >= %(first)s::uuid)
      and (%(before)s::uuid is null or entity < %(before)s::uuid)
    -- without an order the rows are sent while Postgres still reads: it sorts many vectors on disk
    order by case when %(ordered)s then entity end, case when %(ordered)s then item end
) to stdout (format binary)

-- name: items_of
select entity, item, embedding, attributes, properties from matching_pipeline.items_of(%(source)s, %(model)s, %(block)s, %(ids)s)

-- name: count_items
-- unless texts are divided, no row of a table is read for it
select coalesce(sum(case when %(divided)s then coalesce(cardinality(halves), 1 + cardinality(more)) else 1 end), 0)
from matching_pipeline.embedded_items
where source = %(source)s and model = %(model)s and (%(block)s::jsonb = '{}' or properties @> %(block)s::jsonb)

-- name: changes_since
-- Without a snapshot: the changes that this transaction made. A snapshot does not list the transaction that took it, so its
-- changes would count as seen: the last conditions add them.
select pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text,
    coalesce(bool_or(entity is null and tail is null), false),
    coalesce(array_agg(distinct entity) filter (where entity is not null), '{}'),
    coalesce(array_agg(distinct tail) filter (where tail is not null), '{}')
from matching_pipeline.entity_changes
where source = %(source)s
  and transaction >= coalesce(
      least(pg_snapshot_xmin(%(snapshot)s::pg_snapshot), %(own)s::xid8), pg_current_xact_id_if_assigned(), pg_snapshot_xmax(pg_current_snapshot())
  )
  and (
      %(snapshot)s::pg_snapshot is null or not pg_visible_in_snapshot(transaction, %(snapshot)s::pg_snapshot)
      or transaction = %(own)s::xid8 or transaction = pg_current_xact_id_if_assigned()
  )

-- name: forget_changes
-- The row without an entity means that anything may have changed. A session whose last look was before the deleted rows were
-- written finds it, and loads its blocks again.
with old as (
    select distinct source from matching_pipeline.entity_changes
    where (entity is not null or tail is not null) and changed_at < now() - interval '1 hour'
), gone as (
    delete from matching_pipeline.entity_changes where changed_at < now() - interval '1 hour' and source in (select source from old)
)
insert into matching_pipeline.entity_changes (source) select source from old

-- name: copy_items_near
copy (
    select near.entity, near.item, near.embedding, near.attributes::text
    from (
        select entity, item, embedding, attributes, %(others)s + (1 - %(weight)s) * (
            select max(-(stored.direction <#> sought.direction))
            from unnest(%(directions)s::vector[]) as sought (direction)
        ) as most
        from (
            -- Each vector is normalised once: each use of a stored one would fetch it from its table again. `offset 0` keeps
            -- the planner from merging the subqueries.
            select entity, item, part.embedding, attributes, l2_normalize(part.embedding) as direction
            from matching_pipeline.embedded_items
            cross join lateral (
                select coalesce(embedding, halves[1]::vector) as embedding where not %(divided)s
                union all select part from matching_pipeline.vectors_of(embedding, more, halves) as part where %(divided)s
            ) as part
            where source = %(source)s and model = %(model)s
              and (%(block)s::jsonb = '{}' or properties @> %(block)s::jsonb)
              and (%(never_same)s::text is null or entity in (
                  select id from matching_pipeline.entity_values(%(source)s, %(never_same)s) where value is not null
              ))
            offset 0
        ) as stored
        offset 0
    ) as near
    where near.most >= %(threshold)s and near.most >= coalesce((
        select max(similarity) from matching_pipeline.matches
        where matcher = %(matcher)s and (
            (%(are_left)s and left_id = near.entity and left_rank = %(limit)s)
            or (%(are_right)s and right_id = near.entity and right_rank = %(limit)s)
        )
    ), -1)
    order by near.entity, near.item
) to stdout (format binary)

-- name: floors_of_lists
-- the last score of each list that is full
select left_id, similarity from matching_pipeline.matches where %(are_left)s and matcher = %(matcher)s and left_rank = %(limit)s
union all
select right_id, similarity from matching_pipeline.matches where %(are_right)s and matcher = %(matcher)s and right_rank = %(limit)s

-- name: floors_of
-- the same of the entities that are named
select left_id, similarity from matching_pipeline.matches
where %(are_left)s and matcher = %(matcher)s and left_rank = %(limit)s and left_id = any (%(ids)s::uuid[])
union all
select right_id, similarity from matching_pipeline.matches
where %(are_right)s and matcher = %(matcher)s and right_rank = %(limit)s and right_id = any (%(ids)s::uuid[])

-- name: pairs_of
select left_id, right_id, similarity, left_item, right_item, coalesce(left_rank, 0), coalesce(right_rank, 0)
from matching_pipeline.matches
where matcher = %(matcher)s and (left_id = any (%(left_ids)s::uuid[]) or right_id = any (%(right_ids)s::uuid[]))

-- name: values_of
select id, encode(substring(sha256(convert_to(value, 'UTF8')) for 16), 'hex')::uuid
from matching_pipeline.entity_values(%(source)s, %(name)s, %(ids)s::uuid[])
where value is not null
order by id

-- name: excepted_pairs
select left_id, right_id from matching_pipeline.excepted_pairs(%(matcher)s, %(left_ids)s::uuid[], %(right_ids)s::uuid[])

-- name: enqueue_excepted
select matching_pipeline.enqueue_excepted(%(matcher)s, %(value)s)

-- name: match_standing_exceptions
select from matching_pipeline.match_standing_exceptions(%(matcher)s, %(ids)s::uuid[])

-- name: lone_entities_with_pairs
-- the entities that have pairs and can match nothing now, on the sides that keep lists
select source, id
from (
    select left_source as source, left_id as id
    from matching_pipeline.matches
    join matching_pipeline.matchers on matchers.name = matches.matcher
    where matcher = %(matcher)s
    union
    select right_source, right_id
    from matching_pipeline.matches
    join matching_pipeline.matchers on matchers.name = matches.matcher
    where matcher = %(matcher)s and matching_pipeline.keeps_lists(matchers, right_source)
) as paired
where (source, id) not in (select source, id from matching_pipeline.matchable_entities(%(matcher)s, true))

-- name: put_pairs
select matching_pipeline.put_pairs(
    %(matcher)s, %(model)s, %(lost_left)s, %(lost_right)s, %(new_ids)s, %(left)s, %(right)s, %(left_item)s, %(right_item)s, %(similarity)s,
    %(left_rank)s, %(right_rank)s
)

-- name: name_model_of_matches
update matching_pipeline.matches set model = %(model)s where matcher = %(matcher)s and model <> %(model)s

-- name: match_again
select matching_pipeline.enqueue_for_matcher(%(matcher)s, %(source)s, %(ids)s::uuid[])

-- name: best_matches
select left_key, right_key, similarity, left_embedding.thumbnail as left_thumbnail, right_embedding.thumbnail as right_thumbnail,
    left_embedding.input as left_url, right_embedding.input as right_url
from matching_pipeline.matches
join matching_pipeline.matchers on matchers.name = matches.matcher
left join matching_pipeline.embeddings as left_embedding on left_embedding.source = left_source
    and left_embedding.item = left_item and left_embedding.model = matches.model
left join matching_pipeline.embeddings as right_embedding on right_embedding.source = right_source
    and right_embedding.item = right_item and right_embedding.model = matches.model
where matches.matcher = %(matcher)s and left_rank = 1
order by similarity desc, left_key
limit %(count)s
