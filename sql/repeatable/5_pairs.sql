-- How a worker reads the items of changed entities, and writes pairs.

-- The embedded items of those of the entities that have these properties; of a long text each part.
create or replace function items_of(source_name text, model_name text, block jsonb, entity_ids uuid[])
returns table (entity uuid, item uuid, embedding vector, attributes text, properties text)
-- to plan the statement for each changed entity would cost more than the statement
language plpgsql stable set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    return query
    select embedded.entity, embedded.item, part.embedding, embedded.attributes::text, embedded.properties::text
    from embedded_items as embedded
    cross join lateral vectors_of(embedded.embedding, embedded.more, embedded.halves) as part (embedding)
    where embedded.source = source_name and embedded.model = model_name and embedded.entity = any (entity_ids) and embedded.properties @> block
    order by embedded.entity, embedded.item;
end
$$;

-- Deletes pairs and writes others, for a worker that holds the lists. Returns the places, from 1, of pairs that it does not write, since
-- an entity or an item is gone. The other entities stay until the transaction ends. Postgres keeps the plan that it made while the tables were
-- small, and could read whole tables by it. So a subquery that locks or has a limit looks up each key by itself. Only arrays are joined, by hashes.
create or replace function put_pairs(
    matcher_name text, model_name text, lost_left uuid[], lost_right uuid[], new_ids uuid[], left_ids uuid[], right_ids uuid[],
    left_items uuid[], right_items uuid[], similarities double precision[], left_ranks integer[], right_ranks integer[]
) returns setof bigint
language plpgsql set search_path from current set enable_seqscan = off set enable_nestloop = off set plan_cache_mode = force_generic_plan as $$
declare
    of_left text;
    of_right text;
    held_sources text[];
    held_ids uuid[];
    held_keys text[];
    have_vectors boolean[];
begin
    select left_source, right_source into of_left, of_right from matchers where name = matcher_name;
    if cardinality(lost_left) > 0 then
        perform set_config('matching_pipeline.skip_matching', 'on', true);
        delete from matches where id = any (array(
            select stored.id
            from unnest(lost_left, lost_right) as lost (left_id, right_id)
            cross join lateral (
                select id from matches
                where matcher = matcher_name and matches.left_id = lost.left_id and matches.right_id = lost.right_id limit 1
            ) as stored
        ));
    end if;
    -- with all locks held, the next statement sees the items as they stay
    select array_agg(named.source), array_agg(named.id), array_agg(key), array_agg(has_vector)
    into held_sources, held_ids, held_keys, have_vectors
    from (select of_left as source, unnest(left_ids) as id union select of_right, unnest(right_ids)) as named
    cross join lateral (
        select key, embedding is not null as has_vector from entities
        where entities.source = named.source and entities.id = named.id for key share
    ) as held;
    return query
    with held as materialized (
        select * from unnest(held_sources, held_ids, held_keys, have_vectors) as held (source, id, key, has_vector)
    ), pair as materialized (
        select pair.*, left_entity.key as left_key, right_entity.key as right_key
        from unnest(new_ids, left_ids, right_ids, left_items, right_items, similarities, left_ranks, right_ranks)
            with ordinality as pair (id, left_id, right_id, left_item, right_item, similarity, left_rank, right_rank, place)
        left join held as left_entity on left_entity.source = of_left and left_entity.id = left_id
            and (left_entity.has_vector or exists (select from items where items.source = of_left and items.id = left_item))
        left join held as right_entity on right_entity.source = of_right and right_entity.id = right_id
            and (right_entity.has_vector or exists (select from items where items.source = of_right and items.id = right_item))
    ), written as (
        insert into matches (
            id, matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, right_rank, model
        )
        select id, matcher_name, left_id, right_id, left_key, right_key, left_item, right_item, similarity,
            nullif(left_rank, 0), nullif(right_rank, 0), model_name
        from pair
        where left_key is not null and right_key is not null
        order by left_id, right_id
        on conflict (left_id, right_id, matcher) do update set
            left_item = excluded.left_item, right_item = excluded.right_item, similarity = excluded.similarity,
            left_rank = excluded.left_rank, right_rank = excluded.right_rank, model = excluded.model, computed_at = now()
    )
    select place from pair where left_key is null or right_key is null;
end
$$;
