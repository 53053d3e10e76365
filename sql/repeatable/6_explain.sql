-- Why two entities match, or do not.

-- The attributes of an item as a set of words, "name=value" for each value. The caption is free text and does not count.
create or replace function attribute_words(attributes jsonb) returns text[]
language sql immutable parallel safe set search_path from current as $$
    select coalesce(array_agg(distinct format('%s=%s', named.key, coalesce(each.value #>> '{}', 'null'))), '{}')
    from jsonb_each(attributes) as named
    cross join lateral jsonb_array_elements(
        case jsonb_typeof(named.value) when 'array' then named.value else jsonb_build_array(named.value) end
    ) as each
    where named.key <> 'caption'
$$;

create or replace function shared_attributes(one jsonb, other jsonb) returns text[]
language sql immutable parallel safe set search_path from current as $$
    select coalesce(array_agg(word order by word), '{}')
    from unnest(attribute_words(one)) as word where word = any (attribute_words(other))
$$;

-- Ochiai's coefficient of the two sets of words.
create or replace function attribute_overlap(one jsonb, other jsonb) returns double precision
language sql immutable parallel safe set search_path from current as $$
    select coalesce(cardinality(shared_attributes(one, other))
        / nullif(sqrt(cardinality(attribute_words(one))::double precision * cardinality(attribute_words(other))), 0), 0)
$$;

-- The cosine in double precision, as in the lists.
create or replace function exact_cosine(one vector, other vector) returns double precision
language sql immutable parallel safe set search_path from current as $$
    select sum(a * b) / sqrt(sum(a * a) * sum(b * b))
    from (
        select a::double precision as a, b::double precision as b from unnest(one::real[], other::real[]) as pair (a, b)
    ) as doubled
$$;

-- The two items that prove a pair, and what their score is made of. A matcher that has too many items to compare all exactly takes the
-- 50 best pairs by single precision.
create or replace function best_items(matcher_name text, left_entity uuid, right_entity uuid)
returns table (left_item uuid, right_item uuid, score double precision, cosine double precision, overlap double precision, shared text[])
language sql stable set search_path from current as $$
    with rule as (
        select left_source, right_source, source_model(left_source) as left_model, source_model(right_source) as right_model,
            coalesce(attribute_weight, (declaration ->> 'attribute_weight')::double precision) as weight
        from matchers
        left join match_settings on match_settings.matcher = matchers.name and match_settings.model = settings_model(left_source)
        where matchers.name = matcher_name
    ), embedded as (
        select side.is_left, own.item as id, part.embedding, own.attributes, weight
        from rule
        cross join lateral (
            values (true, left_source, left_model, left_entity), (false, right_source, right_model, right_entity)
        ) as side (is_left, source, model, entity)
        cross join lateral (
            select * from embedded_items where source = side.source and model = side.model and entity = side.entity offset 0
        ) as own
        cross join vectors_of(own.embedding, more, halves) as part (embedding)
    ), near as (
        select one.id as left_item, other.id as right_item, one.embedding as left_embedding, other.embedding as right_embedding,
            attribute_overlap(one.attributes, other.attributes) as overlap, shared_attributes(one.attributes, other.attributes) as shared, one.weight
        from embedded as one join embedded as other on one.is_left and not other.is_left
        order by (1 - one.weight) * -(one.embedding <=> other.embedding) + one.weight * attribute_overlap(one.attributes, other.attributes) desc
        limit 50
    )
    select left_item, right_item,
        greatest(-1, least(1, round(((1 - weight) * exact.cosine + weight * overlap)::numeric, 9)))::double precision as score,
        exact.cosine, overlap, shared
    from near
    cross join lateral (select exact_cosine(left_embedding, right_embedding) as cosine offset 0) as exact
    order by score desc, left_item, right_item
    limit 1
$$;

-- The part of the matcher's rule that excludes the pair; null if none does.
create or replace function rule_against(matcher_name text, left_entity uuid, right_entity uuid) returns text
language plpgsql stable set search_path from current as $$
declare
    matcher matchers;
    ours jsonb;
    theirs jsonb;
    named text;
    values_of text[];
begin
    select * into matcher from matchers where name = matcher_name;
    select properties into ours from entities where source = matcher.left_source and id = left_entity;
    select properties into theirs from entities where source = matcher.right_source and id = right_entity;
    if ours is null or theirs is null then
        return format('no worker has read an entity of %s with that key: there is no such row, or it does not count',
            case when ours is null then matcher.left_source else matcher.right_source end);
    elsif matcher.left_source = matcher.right_source and left_entity = right_entity then
        return 'an entity does not match itself';
    end if;
    for named in select value from jsonb_array_elements_text(matcher.declaration -> 'same') loop
        if ours ->> named is null or theirs ->> named is null then
            return format('%s is missing, and must be the same on both sides', named);
        elsif ours ->> named <> theirs ->> named then
            return format('%s must be the same: one has %s, the other %s', named, ours ->> named, theirs ->> named);
        end if;
    end loop;
    for named, values_of in select key, array(select jsonb_array_elements_text(value)) from jsonb_each(matcher.declaration -> 'opposite') loop
        if array[ours ->> named, theirs ->> named] is distinct from values_of
           and array[theirs ->> named, ours ->> named] is distinct from values_of
        then
            return format('%s must be %s of one and %s of the other: one has %s, the other %s', named, values_of[1], values_of[2],
                coalesce(ours ->> named, 'none'), coalesce(theirs ->> named, 'none'));
        end if;
    end loop;
    named := matcher.declaration ->> 'never_same';
    if named is not null then
        values_of := array[
            (select value from entity_values(matcher.left_source, named, array[left_entity])),
            (select value from entity_values(matcher.right_source, named, array[right_entity]))
        ];
        if array_position(values_of, null) is not null then
            return format('%s is missing, and must differ', named);
        elsif values_of[1] = values_of[2] then
            return format('%s must differ: both have %s', named, values_of[1]);
        end if;
    end if;
    if exists (select from excepted_pairs(matcher_name, array[left_entity], array[right_entity])) then
        return format('the table %s excepts the pair', matcher.declaration #>> '{except,table}');
    end if;
    return null;
end
$$;

-- Whether a matcher keeps a pair, why, and what its score is made of. `missed_by` is how much the score lacks to the threshold, or to the
-- last pair of a full list. If the matcher has one source, the two keys may come in either order.
create or replace function explain_match(
    matcher_name text, left_entity text, right_entity text,
    out kept boolean, out because text, out score double precision, out cosine double precision, out overlap double precision,
    out shared text[], out missed_by double precision, out left_rank integer, out right_rank integer, out left_item uuid, out right_item uuid
)
language plpgsql stable set search_path from current as $$
declare
    matcher matchers;
    ours uuid := key_id(left_entity);
    theirs uuid := key_id(right_entity);
    turned boolean;
    pair matches;
    settings match_settings;
    floor double precision;
begin
    select * into matcher from matchers where name = matcher_name;
    if matcher.name is null then
        raise exception 'there is no matcher %', matcher_name using errcode = 'undefined_object';
    end if;
    select * into settings from match_settings where match_settings.matcher = matcher_name and model = settings_model(matcher.left_source);
    -- within one source the left entity of a pair has the lower id
    turned := matcher.left_source = matcher.right_source and ours > theirs;
    if turned then
        select theirs, ours into ours, theirs;
    end if;
    select best.score, best.cosine, best.overlap, best.shared, best.left_item, best.right_item
    into score, cosine, overlap, shared, left_item, right_item
    from best_items(matcher_name, ours, theirs) as best;
    select * into pair from matches where left_id = ours and right_id = theirs and matches.matcher = matcher_name;
    left_rank := case when turned then pair.right_rank else pair.left_rank end;
    right_rank := case when turned then pair.left_rank else pair.right_rank end;
    kept := pair.id is not null;
    because := rule_against(matcher_name, ours, theirs);
    -- the last scores of the full lists, of which the pair must reach the lower one
    select min(last.similarity) into floor from (
        select similarity from matches where matches.matcher = matcher_name and matches.left_id = ours and matches.left_rank = settings.top
        union all
        select similarity from matches
        where matches.matcher = matcher_name and matches.right_id = theirs and matches.right_rank = settings.top
    ) as last;
    if because is not null then
        null;
    elsif score is null then
        because := 'one of the two has no embedding of the active model yet';
    elsif kept then
        because := 'it is ' || concat_ws(' and ',
            'number ' || left_rank || ' of the list of ' || left_entity, 'number ' || right_rank || ' of the list of ' || right_entity);
    elsif score < settings.threshold then
        missed_by := settings.threshold - score;
        because := format('its score is below the threshold %s', settings.threshold);
    elsif score <= floor then
        missed_by := floor - score;
        because := format('the lists hold %s better ones each', settings.top);
    else
        because := 'its lists are not computed yet';
    end if;
    if turned then
        select right_item, left_item into left_item, right_item;
    end if;
end
$$;
