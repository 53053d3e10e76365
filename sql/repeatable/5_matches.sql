-- What must be matched again when an input of `matches` changes.

create or replace function skips_matching() returns boolean
language sql stable set search_path from current as $$
    select coalesce(current_setting('matching_pipeline.skip_matching', true), '') = 'on'
$$;

-- Whether the entities of this source of the matcher keep lists.
create or replace function keeps_lists(matcher matchers, source_name text) returns boolean
language sql immutable set search_path from current as $$
    select source_name = matcher.left_source
        or (source_name = matcher.right_source and matcher.declaration ->> 'lists' = 'both')
$$;

create or replace function source_modality(source_name text) returns text
language sql stable set search_path from current as $$
    select case
        when declaration ->> 'vector' is not null then 'vector'
        when jsonb_array_length(declaration -> 'text') > 0 then 'text'
        else 'image'
    end
    from sources where name = source_name
$$;

-- The model whose embeddings of the source are matched; null before the first. Vectors of the app's have a model for each source.
create or replace function source_model(source_name text) returns text
language sql stable set search_path from current as $$
    select name from embedding_models
    where status = 'active' and modality = source_modality(source_name) and (modality <> 'vector' or name = source_name)
$$;

-- The model in the row of `match_settings` that counts for matchers with this left source.
create or replace function settings_model(source_name text) returns text
language sql stable set search_path from current as $$
    select coalesce(source_model(source_name), case source_modality(source_name) when 'vector' then source_name else '' end)
$$;

-- Whether some item of the entity is embedded by the model.
create or replace function has_embedding(source_name text, entity_id uuid, model_name text) returns boolean
language sql stable set search_path from current as $$
    select exists (
        select from embedded_items where source = source_name and entity = entity_id and model = model_name
    )
$$;

-- Gives a matcher its first settings, those of the declaration, for the models that have none.
create or replace function give_first_settings(matcher_name text) returns void
language sql set search_path from current as $$
    insert into match_settings (matcher, model, threshold, top, attribute_weight)
    select matchers.name, models.name, (declaration ->> 'threshold')::double precision, (declaration ->> 'top')::integer,
        (declaration ->> 'attribute_weight')::double precision
    from matchers
    cross join lateral (select source_modality(left_source) as modality) as left_side
    cross join lateral (
        select left_source where left_side.modality = 'vector'
        union
        select embedding_models.name from embedding_models
        where embedding_models.modality = left_side.modality and left_side.modality <> 'vector' and status in ('active', 'shadow')
        union
        select '' where left_side.modality <> 'vector'
          and not exists (select from embedding_models where embedding_models.modality = left_side.modality)
    ) as models (name)
    where matchers.name = matcher_name
    on conflict do nothing
$$;

-- A new model gets settings too. The first one takes those that a matcher had before.
create or replace function models_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    update match_settings set model = new.name
    from matchers
    where matchers.name = match_settings.matcher and source_modality(left_source) = new.modality and model = '';
    perform give_first_settings(name) from matchers where source_modality(left_source) = new.modality;
    return null;
end
$$;

create or replace trigger embedding_models_settings after insert or update of status on embedding_models
    for each row when (new.status in ('active', 'shadow') and new.modality <> 'vector') execute function models_changed();

-- Enqueues every entity that keeps a list.
create or replace function enqueue_all_for_matching(matcher_name text) returns integer
language sql set search_path from current as $$
    select coalesce(sum(enqueue_jobs(matchers.queue, sources.name, 'entity', array(
        select key from entities where source = sources.name
    ))), 0)::integer
    from matchers join sources on keeps_lists(matchers, sources.name)
    where matchers.name = matcher_name
$$;

create or replace function enqueue_for_matcher(matcher_name text, source_name text, ids uuid[]) returns integer
language sql set search_path from current as $$
    select enqueue_jobs(matchers.queue, source_name, 'entity', array(
        select key from entities where source = source_name and id = any (ids)
    ))
    from matchers where matchers.name = matcher_name
$$;

-- The entities of both sides, or of those that keep lists, that the matcher can match, with the values that both sides of a pair have
-- in common. The conditions are made once, as a path: subqueries for each entity would cost more than all else.
create or replace function matchable_entities(matcher_name text, only_keepers boolean default false)
returns table (source text, id uuid, same jsonb, properties jsonb)
language sql stable set search_path from current as $$
    with rule as materialized (
        select matchers, declaration ->> 'never_same' as never_same,
            array(select jsonb_array_elements_text(declaration -> 'same')) as names, (
                select coalesce(string_agg(condition, ' && '), '1 == 1')::jsonpath
                from (
                    select format('$.%s != null', property) from jsonb_array_elements(declaration -> 'same') as property
                    union all
                    select format('(%s)', string_agg(format('$.%s == %s', to_jsonb(key), allowed), ' || '))
                    from jsonb_each(declaration -> 'opposite') as opposite
                    cross join jsonb_array_elements(opposite.value) as allowed
                    group by key
                ) as conditions (condition)
            ) as needed
        from matchers
        where name = matcher_name
    )
    select sources.name, entities.id, block.same, entities.properties
    from rule
    join (select name, source_model(name) as model from sources offset 0) as sources
        on sources.name in ((matchers).left_source, (matchers).right_source) and (not only_keepers or keeps_lists(matchers, sources.name))
    cross join lateral (
        select distinct on (entity) entity as id, embedded_items.properties from embedded_items
        where embedded_items.source = sources.name and embedded_items.model = sources.model
    ) as entities
    cross join lateral (
        select case cardinality(names)
            when 0 then '{}'
            when 1 then jsonb_build_object(names[1], entities.properties -> names[1])
            else (select jsonb_object_agg(name, entities.properties -> name) from unnest(names) as name)
        end as same
    ) as block
    where entities.properties @@ needed
      and (never_same is null or entities.id in (
          select valued.id from entity_values(sources.name, never_same) as valued where value is not null
      ))
$$;

-- A transaction that writes the lists itself sets `matching_pipeline.skip_matching`: its other changes enqueue no matching.
create or replace function embeddings_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching(name) from matchers;
    elsif tg_op = 'DELETE' then
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from old_rows
        join items on items.source = old_rows.source and items.id = old_rows.item
        join embedding_models on embedding_models.name = old_rows.model and embedding_models.status = 'active'
        group by items.source;
    elsif tg_op = 'INSERT' then
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from new_rows
        join items on items.source = new_rows.source and items.id = new_rows.item
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        group by items.source;
    else
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from new_rows
        join items on items.source = new_rows.source and items.id = new_rows.item
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        left join old_rows on old_rows.source = new_rows.source and old_rows.item = new_rows.item and old_rows.model = new_rows.model
        where (old_rows.embedding, old_rows.more, old_rows.halves, old_rows.attributes)
            is distinct from (new_rows.embedding, new_rows.more, new_rows.halves, new_rows.attributes)
        group by items.source;
    end if;
    return null;
end
$$;

create or replace function entities_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'INSERT' then
        perform enqueue_for_matchers(source, array_agg(id)) from new_rows where embedding is not null group by source;
    else
        perform enqueue_for_matchers(new_rows.source, array_agg(new_rows.id))
        from new_rows
        join old_rows on old_rows.source = new_rows.source and old_rows.id = new_rows.id
        where (old_rows.properties, old_rows.user_key, old_rows.embedding) is distinct from (new_rows.properties, new_rows.user_key, new_rows.embedding)
        group by new_rows.source;
    end if;
    return null;
end
$$;

-- An item that moved to another entity changes the lists of both.
create or replace function items_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if not skips_matching() then
        perform enqueue_for_matchers(source, array_agg(distinct entity))
        from (
            select new_rows.source, unnest(array[old_rows.entity, new_rows.entity]) as entity
            from new_rows
            join old_rows on old_rows.source = new_rows.source and old_rows.id = new_rows.id
            where old_rows.entity <> new_rows.entity
        ) as moved
        group by source;
    end if;
    return null;
end
$$;

-- A pair that was lost leaves room, so the lists that had it are computed again.
create or replace function matches_lost() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching(name) from matchers;
    else
        perform enqueue_jobs(matchers.queue, source, 'entity', array_agg(distinct key))
        from (
            select matcher, left_key as key, true as is_left from old_rows where left_rank is not null
            union
            select matcher, right_key, false from old_rows where right_rank is not null
        ) as listing
        join matchers on matchers.name = listing.matcher
        cross join lateral (values (case when is_left then left_source else right_source end)) as side (source)
        -- an entity that is gone has nothing to match
        where exists (select from entities where entities.source = side.source and entities.id = key_id(listing.key))
        group by matchers.queue, source;
    end if;
    return null;
end
$$;

create or replace function match_settings_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    perform enqueue_all_for_matching(new_rows.matcher)
    from new_rows
    join old_rows using (matcher, model)
    join matchers on matchers.name = new_rows.matcher and settings_model(left_source) = new_rows.model;
    return null;
end
$$;

create or replace trigger embeddings_insert after insert on embeddings
    referencing new table as new_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_update after update on embeddings
    referencing old table as old_rows new table as new_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_delete after delete on embeddings
    referencing old table as old_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_truncate after truncate on embeddings
    for each statement execute function embeddings_changed();
create or replace trigger entities_insert after insert on entities
    referencing new table as new_rows for each statement execute function entities_changed();
create or replace trigger entities_update after update on entities
    referencing old table as old_rows new table as new_rows for each statement execute function entities_changed();
create or replace trigger items_update after update on items
    referencing old table as old_rows new table as new_rows for each statement execute function items_changed();
create or replace trigger matches_delete after delete on matches
    referencing old table as old_rows for each statement execute function matches_lost();
create or replace trigger matches_truncate after truncate on matches
    for each statement execute function matches_lost();
-- If the rule of a matcher changes, every entity is matched again.
create or replace function matchers_changed() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    of_the_rule text[] := array['left', 'right', 'same', 'opposite', 'lists', 'never_same', 'except'];
begin
    perform enqueue_all_for_matching(new_rows.name)
    from new_rows
    join old_rows on old_rows.name = new_rows.name
    where (select jsonb_object_agg(key, value) from jsonb_each(old_rows.declaration) where key = any (of_the_rule))
        is distinct from (select jsonb_object_agg(key, value) from jsonb_each(new_rows.declaration) where key = any (of_the_rule));
    return null;
end
$$;

create or replace trigger matchers_update after update on matchers
    referencing old table as old_rows new table as new_rows for each statement execute function matchers_changed();
create or replace trigger match_settings_update after update on match_settings
    referencing old table as old_rows new table as new_rows for each statement execute function match_settings_changed();

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

-- Divides a rebuild into shards of about so many entities that keep lists. If only left entities do, a shard may have a range of a block: the ranges
-- cover also entities to come. Otherwise a block stays whole, because a row has the ranks of both entities. The part without `same` has the entities
-- that have pairs and are in no block.
create or replace function rebuild_parts(matcher_name text, size integer) returns table (place bigint, entities bigint, parts jsonb)
language sql stable set search_path from current as $$
    with keepers as materialized (
        select same, id from matchable_entities(matcher_name, true)
    ), blocks as materialized (
        select same, count(*) as members, count(*) > size and not (
            select keeps_lists(matchers, right_source) from matchers where name = matcher_name
        ) as is_divided
        from keepers
        group by same
    ), starts as (
        select same, members, id as first, row_number() over (partition by same order by id) - 1 as place
        from keepers join blocks using (same)
        where is_divided
    ), parted as (
        select null::jsonb as same, 0::bigint as members, null::uuid as first, null::uuid as before
        union all
        select same, members, null, null from blocks where not is_divided
        union all
        select same, least(size, members - place), case when place > 0 then first end, lead(first) over (partition by same order by place)
        from starts
        where place % size = 0
    ), placed as (
        select parted.*, (sum(members) over (order by same nulls first, first nulls first) - members)::bigint / size as shard
        from parted
    )
    select row_number() over (order by shard), sum(members)::bigint,
        jsonb_agg(jsonb_build_object('same', same, 'first', first, 'before', before) order by same nulls first, first nulls first)
    from placed
    group by shard
$$;
