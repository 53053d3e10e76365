-- Which entities a matcher can match, and how a rebuild of its lists is divided.

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
