-- Pairs that must not match: the rows of the table that `except` of a matcher names.

-- The values that can be cast to the type.
create or replace function values_of_type(given text[], type_name text) returns text[]
language plpgsql stable set search_path from current as $$
declare
    value text;
    taken text[] := '{}';
begin
    execute format('select $1::%s[]', type_name) using given;
    return given;
exception when data_exception or integrity_constraint_violation then
    foreach value in array given loop
        begin
            execute format('select $1::%s', type_name) using value;
            taken := taken || value;
        exception when data_exception or integrity_constraint_violation then
            continue;
        end;
    end loop;
    return taken;
end
$$;

-- The rows, both ways if that is declared and if a source matches itself. With `asked`, only those that have one of these values in a column: the
-- columns' indexes find them. Only the owner can write the SQL that is executed here.
create or replace function excepted_values(matcher_name text, asked text[] default null) returns table (left_value text, right_value text)
language plpgsql stable security definer set search_path from current set row_security = off set lock_timeout = '500ms' as $$
declare
    rule jsonb;
    both_ways boolean;
    own regclass;
    left_type text;
    right_type text;
    left_asked text[];
    right_asked text[];
    found_rows text := '%3$s';
begin
    select nullif(declaration -> 'except', 'null'), left_source = right_source or declaration #>> '{except,both_ways}' = 'true'
    into rule, both_ways from matchers where name = matcher_name;
    if rule is null then
        return;
    end if;
    own := to_regclass(rule ->> 'table');
    left_type := column_type(own, rule ->> 'left');
    right_type := column_type(own, rule ->> 'right');
    -- without a type the error of the statement names the missing column
    if asked is not null and left_type is not null and right_type is not null then
        left_asked := values_of_type(asked, left_type);
        right_asked := values_of_type(asked, right_type);
        found_rows := '(select %1$I, %2$I from %3$s where %1$I = any ($2::%4$s[]) union all '
            'select %1$I, %2$I from %3$s where %2$I = any ($3::%5$s[])) as asked';
    end if;
    return query execute format(
        'select named.* from (select (%1$I)::text as one, (%2$I)::text as other from ' || found_rows || ') as pair '
        'cross join lateral (values (one, other), (case when $1 then other end, one)) as named (one, other) '
        'where named.one is not null and named.other is not null',
        rule ->> 'left', rule ->> 'right', rule ->> 'table', left_type, right_type
    ) using both_ways, left_asked, right_asked;
end
$$;

-- The value of each entity of a source for a name in `except`: of the column that `user` declares, of the key, or of a property.
create or replace function entity_values(source_name text, column_name text, ids uuid[] default null) returns table (id uuid, value text)
language plpgsql stable set search_path from current set plan_cache_mode = force_custom_plan as $$
begin
    return query
    select entities.id, case column_name
        when declaration ->> 'user' then entities.user_key
        when declaration ->> 'key' then entities.key
        else entities.properties ->> column_name
    end
    from entities join sources on sources.name = entities.source
    where entities.source = source_name and (ids is null or entities.id = any (ids));
end
$$;

-- The pairs of these left and right entities that must not match. It reads the rows that name an entity of the smaller side.
create or replace function excepted_pairs(matcher_name text, left_ids uuid[] default null, right_ids uuid[] default null)
returns table (left_id uuid, right_id uuid)
language plpgsql stable set search_path from current as $$
declare
    matcher matchers;
    column_name text;
    asked text[];
begin
    select * into matcher from matchers where name = matcher_name;
    column_name := matcher.declaration #>> '{except,on}';
    if right_ids is null or cardinality(left_ids) <= cardinality(right_ids) then
        asked := array(select value from entity_values(matcher.left_source, column_name, left_ids) where left_ids is not null);
    else
        asked := array(select value from entity_values(matcher.right_source, column_name, right_ids));
    end if;
    return query
    select distinct own.id, other.id
    from excepted_values(matcher_name, case when left_ids is not null or right_ids is not null then asked end) as named
    join entity_values(matcher.left_source, column_name, left_ids) as own on own.value = left_value
    join entity_values(matcher.right_source, column_name, right_ids) as other on other.value = right_value;
end
$$;

-- The entities of a source that have one of these values in the column or property.
create or replace function entities_with(source_name text, column_name text, found_values text[]) returns uuid[]
language plpgsql stable set search_path from current as $$
declare
    declared jsonb := (select declaration from sources where name = source_name);
begin
    if column_name = declared ->> 'user' then
        return array(select id from entities where source = source_name and user_key = any (found_values));
    elsif column_name = declared ->> 'key' then
        return array(select id from entities where source = source_name and id = any ((select key_ids(found_values))::uuid[]));
    end if;
    return array(
        select entities.id from unnest(found_values) as found (value)
        join entities on source = source_name and properties @> jsonb_build_object(column_name, found.value)
    );
end
$$;

-- The trigger on the declared table. It deletes the pairs that must not match any more, unless another session has locked them. It
-- enqueues the values that the changed rows have. After the app's commit a worker finds the entities, also those mirrored only then. It never fails the app's statement.
create or replace function exceptions_changed() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    matcher matchers;
    found_values text[];
begin
    select * into matcher from matchers where name = tg_argv[0];
    if matcher.name is null then
        return null;
    end if;
    if tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching(matcher.name);
        return null;
    end if;
    begin
        execute (
            select format('select array_agg(distinct value) from (%s) as changed (value)', string_agg(
                format('select (%I)::text from %s', declared.column_name, changed.table_name), ' union all '
            ))
            from unnest(array[matcher.declaration #>> '{except,left}', matcher.declaration #>> '{except,right}']) as declared (column_name)
            cross join unnest(case tg_op
                when 'INSERT' then array['new_rows'] when 'DELETE' then array['old_rows'] else array['new_rows', 'old_rows']
            end) as changed (table_name)
        ) into found_values;
        perform enqueue_jobs(matcher.queue, matcher.left_source, 'excepted', found_values);
        if tg_op <> 'DELETE' then
            perform delete_excepted(
                matcher.name, entities_with(matcher.left_source, matcher.declaration #>> '{except,on}', found_values),
                entities_with(matcher.right_source, matcher.declaration #>> '{except,on}', found_values)
            );
        end if;
    exception when others then
        perform enqueue_all_for_matching(matcher.name);
    end;
    return null;
exception when others then
    raise warning 'matching_pipeline: a change of the exceptions of % is lost until the next rebuild: SQLSTATE %', tg_argv[0], sqlstate;
    return null;
end
$$;

-- Deletes the pairs of these left and right entities that are excepted.
create or replace function delete_excepted(matcher_name text, left_ids uuid[], right_ids uuid[]) returns void
language plpgsql set search_path from current as $$
begin
    -- at a stricter isolation level Postgres would abort the app's transaction if a worker has changed a row that this locks
    if current_setting('transaction_isolation') = 'read committed' then
        delete from matches where id = any (array (
            select matches.id from matches
            join excepted_pairs(matcher_name, left_ids, right_ids) as excepted using (left_id, right_id)
            where matches.matcher = matcher_name
            for update of matches skip locked
        ));
    end if;
end
$$;

-- Enqueues the entities of both sides that have this value in the column or property of `except`. The caller holds the matcher's
-- lists, so it sees all entities whose lists were written before the value's row was committed.
create or replace function enqueue_excepted(matcher_name text, value text) returns void
language plpgsql set search_path from current as $$
begin
    perform enqueue_for_matcher(matchers.name, source, entities_with(source, declaration #>> '{except,on}', array[value]))
    from matchers
    cross join lateral (select distinct unnest(array[left_source, right_source]) as source) as sides
    where matchers.name = matcher_name;
end
$$;

-- Deletes the pairs of these entities that are excepted, and enqueues both sides. A worker calls it when it has committed
-- entities and pairs: the trigger may have run before, and not have seen these entities.
create or replace function match_standing_exceptions(matcher_name text, ids uuid[]) returns void
language plpgsql set search_path from current as $$
declare
    matcher matchers;
    left_ids uuid[];
    right_ids uuid[];
begin
    select * into matcher from matchers where name = matcher_name;
    select array_agg(left_id), array_agg(right_id) into left_ids, right_ids
    from (
        select left_id, right_id from excepted_pairs(matcher_name, left_ids => ids)
        union
        select left_id, right_id from excepted_pairs(matcher_name, right_ids => ids)
    ) as excepted
    join matches using (left_id, right_id)
    where matches.matcher = matcher_name;
    if left_ids is not null then
        perform enqueue_for_matcher(matcher.name, matcher.left_source, left_ids);
        perform enqueue_for_matcher(matcher.name, matcher.right_source, right_ids);
        perform delete_excepted(matcher.name, left_ids, right_ids);
    end if;
end
$$;

-- Whether both sources of the matcher are attached.
create or replace function is_attached_matcher(matcher_name text) returns boolean
language sql stable set search_path from current as $$
    select exists (select from matchers where name = matcher_name) and not exists (
        select from matchers join sources on sources.name in (left_source, right_source)
        where matchers.name = matcher_name and attached_at is null
    )
$$;

-- Makes the trigger of a matcher on the table of its exceptions if it is missing, and drops it from other tables. A matcher of a
-- detached source has none.
create or replace function make_exception_triggers(matcher_name text) returns void
language plpgsql set search_path from current as $$
declare
    declared regclass := (select declared_table(declaration #>> '{except,table}') from matchers where name = matcher_name and is_attached_matcher(name));
    wanted record;
    extra record;
begin
    for extra in select * from exception_triggers(matcher_name) where of_table is distinct from declared loop
        execute format('drop trigger %I on %s', extra.name, qualified(extra.of_table));
    end loop;
    for wanted in
        select format('matching_pipeline_%s_except_%s', matcher_name, event) as name, event, referencing
        from (values
            ('insert', 'referencing new table as new_rows'), ('delete', 'referencing old table as old_rows'),
            ('update', 'referencing old table as old_rows new table as new_rows'), ('truncate', '')
        ) as events (event, referencing)
        where declared is not null and format('matching_pipeline_%s_except_%s', matcher_name, event)
            not in (select standing.name from exception_triggers(matcher_name) as standing where of_table = declared)
    loop
        execute format('create trigger %I after %s on %s %s for each statement execute function exceptions_changed(%L)',
            wanted.name, wanted.event, qualified(declared), wanted.referencing, matcher_name);
    end loop;
end
$$;

-- The triggers of a matcher's exceptions, on any table.
create or replace function exception_triggers(matcher_name text) returns table (name text, of_table regclass)
language sql stable set search_path from current as $$
    select tgname::text, tgrelid::regclass from pg_trigger
    where tgfoid = 'exceptions_changed()'::regprocedure and tgname ~ format('^matching_pipeline_%s_except_[a-z]+$', matcher_name)
$$;

-- The problems of a matcher's exceptions with the app's table.
create or replace function exception_problems(declaration jsonb) returns setof text
language sql stable set search_path from current as $$
    select format('matcher %s: except.%s: %s', declaration ->> 'name', field, problem)
    from (select declaration -> 'except' as rule, watchable_table(declaration #>> '{except,table}') as own) as declared
    cross join lateral (values
        ('table', table_problem(rule ->> 'table')),
        ('left', column_problem(own, rule ->> 'left', false)), ('right', column_problem(own, rule ->> 'right', false))
    ) as found (field, problem)
    where rule <> 'null' and (field = 'table' or own is not null) and problem is not null
$$;
