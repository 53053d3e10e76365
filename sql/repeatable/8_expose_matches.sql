-- The views of pairs, and of the queues of matchers.

-- The pairs of the matchers that publish into no table of the app, a branch each, with the app's own keys; and the queue of each
-- matcher of vectors.
create or replace function expose_matches(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    selects text;
    matcher jsonb;
begin
    with matchers as (
        select value as matcher, value ->> 'name' as matcher_name, ordinality as number
        from jsonb_array_elements(declaration -> 'matchers') with ordinality
        where value ->> 'publish' is null
    ), own as (
        select matchers.number, columns.name, columns.type, columns.expression,
            (expression in ('left_rank', 'right_rank'))::integer * 1000 + matchers.number * 10 + columns.number as place
        from matchers
        cross join lateral match_columns(matchers.matcher) with ordinality as columns (name, type, expression, number)
    ), shown as (
        -- matchers may share a column
        select name, case count(distinct type) when 1 then min(type) else 'text' end as type, min(place) as place
        from own group by name
    )
    select string_agg(each.statement, ' union all ' order by each.number) into selects
    from (
        select matchers.number, format(
            'select id, matcher as kind, %s, similarity, model, computed_at from matching_pipeline.matches where matcher = %L',
            string_agg(format('(%s)::%s as %I', coalesce(own.expression, 'null'), shown.type, shown.name), ', ' order by shown.place),
            matchers.matcher_name
        ) as statement
        from matchers
        cross join shown
        left join own on own.number = matchers.number and own.name = shown.name
        group by matchers.number, matchers.matcher_name
    ) as each;
    if selects is not null and expose_view(of_schema, declaration ->> 'name', selects) then
        perform open_to_users(of_schema, declaration ->> 'name');
    end if;
    for matcher in select jsonb_array_elements(declaration -> 'matchers') loop
        perform index_exposed_key(
            format('matches_%s_%s_key_idx', matcher ->> 'name', side), 'matches',
            case when matcher ->> 'publish' is null and key_type(array[source_name]) <> 'uuid' then exposed_key(side, key_type(array[source_name])) end,
            format('matcher = %L', matcher ->> 'name')
        )
        from (values ('left', matcher ->> 'left'), ('right', matcher ->> 'right')) as keys (side, source_name);
        if matcher ->> 'queue_view' is not null then
            perform expose_match_queue(of_schema, matcher);
        end if;
    end loop;
end
$$;

-- The SQL for an entity's key. A uuid key uses `left_id` or `right_id`, which has an index.
create or replace function exposed_key(side text, type text) returns text
language sql immutable set search_path from current as $$
    select case type when 'uuid' then side || '_id' when 'text' then side || '_key' else format('%s_key::%s', side, type) end
$$;

create or replace function exposed_item(side text, source_name text, type text) returns text
language sql stable set search_path from current as $$
    select case type
        when 'uuid' then side || '_item'
        -- the key of a text or a vector is the entity's
        else case source_modality(source_name) when 'image'
            then format('(select items.key::%s from matching_pipeline.items where items.source = %L and items.id = %s_item)', type, source_name, side)
            else exposed_key(side, type) end
    end
$$;

-- The columns of the view of matches that a matcher fills: its keys, its pictures if it compares pictures, and its ranks.
create or replace function match_columns(matcher jsonb) returns table (name text, type text, expression text)
language sql stable set search_path from current as $$
    with sides as (
        select side, source_name, column_name, key_type(array[source_name]) as type, key_type(array[source_name], true) as item_type
        from (values
            ('left', matcher ->> 'left', matcher #>> '{columns,0}'), ('right', matcher ->> 'right', matcher #>> '{columns,1}')
        ) as declared (side, source_name, column_name)
    )
    select column_name, type, exposed_key(side, type) from sides
    union all
    select regexp_replace(column_name, '(_id)?$', '_image_id'), item_type, exposed_item(side, source_name, item_type)
    from sides where source_modality(source_name) = 'image'
    union all
    select rank.name, 'integer', rank.expression
    from (values ('rank', 'left_rank', true), ('rank_for_a', 'left_rank', false), ('rank_for_b', 'right_rank', false))
        as rank (name, expression, of_one_side)
    where of_one_side = (matcher ->> 'left' <> matcher ->> 'right' and matcher ->> 'lists' <> 'both')
$$;

create or replace function expose_match_queue(of_schema text, matcher jsonb) returns void
language plpgsql set search_path from current as $$
declare
    source_name text := matcher ->> 'left';
    key_column text := matcher ->> 'queue_key';
    source jsonb := (select declaration from sources where name = matcher ->> 'left');
    user_type text := coalesce(column_type(to_regclass(source ->> 'table'), source ->> 'user'), 'text');
begin
    if not expose_view(of_schema, matcher ->> 'queue_view', format($view$
        select id, key::%1$s as %2$I,
            (select user_key::%3$s from matching_pipeline.shown_row(source, key)) as user_id,
            (select embedding from matching_pipeline.shown_row(source, key)) as embedding,
            status, attempts - snoozes as attempts, max_attempts, error_message, created_at, started_at, completed_at
        from matching_pipeline.jobs
        where queue = %4$L and kind = 'entity'
    $view$, key_type(array[source_name]), key_column, user_type, 'matches_' || (matcher ->> 'name'))) then
        return;
    end if;
    perform open_to_users(of_schema, matcher ->> 'queue_view');
    perform accept_jobs(of_schema, matcher ->> 'queue_view', 'matches_' || (matcher ->> 'name'), source_name, key_column);
end
$$;
