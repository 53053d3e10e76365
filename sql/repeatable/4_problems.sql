-- Whether a declaration fits the app's tables. Only the owner may run these functions.

-- What is wrong with a table that a declaration names; null if a trigger can watch it.
create or replace function table_problem(declared text) returns text
language plpgsql stable set search_path from current as $$
declare
    found regclass := declared_table(declared);
    relation pg_class;
    alike text;
begin
    if found is null then
        select string_agg(qualified(pg_class.oid), ' or ' order by nspname, relname) into alike
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and not relispartition and nspname not in ('information_schema', 'matching_pipeline') and nspname !~ '^pg_'
          and lower(relname) = lower(replace(regexp_replace(declared, '^("([^"]|"")*"|[^.]*)[.]', ''), '"', ''));
        return format('there is no table %s', declared)
            || coalesce(', but ' || alike, ': write the name of one of yours; `matching-pipeline attach --guess` proposes some');
    end if;
    select * into relation from pg_class where oid = found;
    return case
        when relation.relnamespace = 'matching_pipeline'::regnamespace then format('%s is a table of the pipeline itself', declared)
        when relation.relispartition then format('%s is a partition, whose triggers see no statement that names the whole table: declare %s',
            declared, qualified(pg_partition_root(found)))
        when relation.relkind = 'f' then format('%s is a foreign table, whose changes no trigger here sees: '
            'declare a copy of it in this database, such as a logical replica', declared)
        when relation.relkind in ('v', 'm') then format('%s is a %s, which has no triggers: declare the table behind it, '
            'and write what it computes as expressions', declared, case relation.relkind when 'v' then 'view' else 'materialized view' end)
        when relation.relkind not in ('r', 'p') then format('%s is no table', declared)
    end;
end
$$;

create or replace function watchable_table(declared text) returns regclass
language sql stable set search_path from current as $$
    select case when table_problem(declared) is null then declared_table(declared) end
$$;

-- What is wrong with a column that a declaration names; null if it fits. A key must have a type whose text names the same row again.
create or replace function column_problem(of_table regclass, column_name text, is_key boolean) returns text
language sql stable set search_path from current as $$
    select case
        when attnum is null then format('%s has no column %I', qualified(of_table), column_name)
            || coalesce((
                select ', but ' || quote_ident(attname) from pg_attribute
                where attrelid = of_table and attnum > 0 and not attisdropped and lower(attname) = lower(column_name)
                limit 1
            ), '')
        when is_key and base.typname not in ('uuid', 'int2', 'int4', 'int8', 'text', 'varchar') then
            format('%I of %s is a %s: a key is a uuid, smallint, integer, bigint, text or varchar',
                column_name, qualified(of_table), format_type(atttypid, atttypmod))
    end
    from (select) as always
    left join pg_attribute on attrelid = of_table and attname = column_name and attnum > 0 and not attisdropped
    left join pg_type as base on base.oid = atttypid
$$;

-- What is wrong with the columns of a key.
create or replace function key_problems(of_table regclass, columns text[]) returns setof text
language plpgsql stable set search_path from current as $$
declare
    named text := (select string_agg(quote_ident(name), ', ') from unnest(columns) as name);
begin
    return query select problem from unnest(columns) as name cross join lateral column_problem(of_table, name, true) as problem where problem is not null;
    if not found and key_index_columns(of_table, columns) is null then
        return next format(case cardinality(columns)
            when 1 then '%s of %s is not unique: it needs a unique index, neither partial nor deferrable%s'
            else '%s of %s are not unique: they need a unique index, neither partial nor deferrable%s' end,
            named, qualified(of_table), (
                select '; the primary key is ' || string_agg(quote_ident(attname), ', ' order by place)
                from pg_index
                cross join lateral unnest(indkey::smallint[]) with ordinality as part (attnum, place)
                join pg_attribute on attrelid = indrelid and pg_attribute.attnum = part.attnum
                where indrelid = of_table and indisprimary and indimmediate
            ));
    end if;
end
$$;

-- Why an expression does not fit, as Postgres says it; null if it fits. `tables` is SQL for the rows that it may read, and `types` are
-- those that its value may have, null for any. A trigger sees no change of another table.
create or replace function expression_problem(expression text, tables text, types text[] default null) returns text
language plpgsql set search_path from current as $$
declare
    allowed regclass[] := (select there.tables from all_columns_read(format('select from %s', tables)) as there);
    reads record;
    hint text;
begin
    reads := all_columns_read(format('select %s as value from %s', expression, tables));
    return nullif(concat_ws('; ',
        case when reads.types[1] <> all (types) then format('its value is a %s, not a %s', reads.types[1], array_to_string(types, ' or ')) end,
        (
            select format('it reads %s, whose changes no trigger sees: read the rows t and p only', string_agg(distinct qualified(other), ', '))
            from unnest(reads.tables) as other where other <> all (allowed) having count(*) > 0
        )
    ), '');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return concat_ws(': ', sqlerrm, case
        when sqlerrm like '%"p"%' and sqlstate = '42P01' then 'the row p is that of `parent`'
        when hint like 'Perhaps%' then hint
    end);
end
$$;

-- The words of a status that its column cannot hold because it is an enum without them.
create or replace function status_problem(of_table regclass, write_back jsonb) returns text
language sql stable set search_path from current as $$
    select format('%I of %s cannot be %s', write_back ->> 'status', qualified(of_table), string_agg(word, ', ' order by state))
    from pg_attribute
    join pg_type on pg_type.oid = atttypid and typtype = 'e'
    cross join jsonb_each_text(write_back - 'status') as said (state, word)
    where attrelid = of_table and attname = write_back ->> 'status' and not attisdropped
      and not exists (select from pg_enum where enumtypid = atttypid and enumlabel = word)
    having count(*) > 0
$$;

-- The expressions of a declaration: SQL for the value of each and for the rows that it may read, and the types that it may have.
create or replace function declared_expressions(declaration jsonb)
returns table (field text, written text, value text, rows_read text, types text[])
language plpgsql stable set search_path from current as $$
declare
    own regclass := watchable_table(declaration ->> 'table');
    parent jsonb := nullif(declaration -> 'parent', 'null');
    parent_table regclass := watchable_table(parent ->> 'table');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    picture_table regclass := watchable_table(pictures ->> 'table');
    row_and_parent text := concat_ws(' left join ', qualified(own) || ' as t', qualified(parent_table) || ' as p on true');
    and_picture text := row_and_parent || case
        when pictures ->> 'each' is not null then format(' cross join lateral jsonb_array_elements(as_list(to_jsonb(%s))) as i', pictures ->> 'each')
        else format(' cross join %s as i', qualified(picture_table))
    end;
begin
    if own is null or (parent is not null and parent_table is null) then
        -- without its tables an expression cannot be checked
        return;
    end if;
    return query
    select each.field, each.written, coalesce(each.value, format('(%s)::text', each.written)), each.rows_read, each.types
    from (
        select 'when', declaration ->> 'when', '(' || (declaration ->> 'when') || ')', row_and_parent, array['boolean']
        union all
        select 'photo', declaration ->> 'photo', null, row_and_parent, null
        union all
        select 'properties.' || key, properties.value, null, row_and_parent, null from jsonb_each_text(declaration -> 'properties') as properties
        union all
        select 'text', part, null, row_and_parent, null from jsonb_array_elements_text(declaration -> 'text') as part
        union all
        select 'vector', declaration ->> 'vector', format('(t.%I)::vector', declaration ->> 'vector'), row_and_parent, null
        where column_type(own, declaration ->> 'vector') is not null
        union all
        select 'pictures.each', pictures ->> 'each', '(' || (pictures ->> 'each') || ')', row_and_parent,
            array['text[]', 'character varying[]', 'jsonb', 'json']
        union all
        select 'pictures.when', pictures ->> 'when', '(' || (pictures ->> 'when') || ')', and_picture, array['boolean']
        union all
        select 'pictures.url', pictures ->> 'url', format('(%s)::text', picture_url(pictures)), and_picture, null
        where pictures ->> 'each' is not null or not is_name(pictures ->> 'url')
    ) as each (field, written, value, rows_read, types)
    where each.written is not null and each.rows_read is not null;
end
$$;

-- Why two keys cannot be compared; null if they can, or if a column is missing.
create or replace function comparison_problem(left_table regclass, left_columns text[], right_table regclass, right_columns text[]) returns text
language sql set search_path from current as $$
    select expression_problem(keys_equal('a', left_columns, 'b', right_columns), format('%s as a, %s as b', qualified(left_table), qualified(right_table)))
    where not exists (select from unnest(left_columns) as name where column_type(left_table, name) is null)
      and not exists (select from unnest(right_columns) as name where column_type(right_table, name) is null)
$$;

-- Why triggers on a table, or statements that read it, would fail.
create or replace function access_problems(of_table regclass) returns setof text
language sql stable set search_path from current as $$
    select format('%s may not create triggers on %s: attach as its owner, or grant trigger on it', current_user, qualified(of_table))
    where not has_table_privilege(of_table, 'trigger')
    union all
    select format('%s may not read %s: attach as its owner, or grant select on it', current_user, qualified(of_table))
    where not has_any_column_privilege(of_table, 'select')
    union all
    select format('row-level security would hide rows of %s from %s: attach as its owner, or as a role with bypassrls', qualified(of_table), current_user)
    where row_security_active(of_table)
$$;

-- All that does not fit, each with the field of the declaration.
create or replace function source_problems(declaration jsonb) returns setof text
language plpgsql set search_path from current as $$
declare
    own regclass := watchable_table(declaration ->> 'table');
    parent jsonb := nullif(declaration -> 'parent', 'null');
    parent_table regclass := watchable_table(parent ->> 'table');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    picture_table regclass := watchable_table(pictures ->> 'table');
begin
    return query
    select format('source %s: %s: %s', declaration ->> 'name', field, problem)
    from (
        select field, coalesce(table_problem(declared), access) as problem
        from (values
            ('table', declaration ->> 'table'), ('parent.table', parent ->> 'table'), ('pictures.table', pictures ->> 'table')
        ) as named (field, declared)
        left join lateral access_problems(watchable_table(declared)) as access on true
        where declared is not null
        union all
        select field, key_problems(of_table, key_columns(key))
        from (values
            ('key', own, declaration -> 'key'), ('parent.key', parent_table, parent -> 'key'), ('pictures.key', picture_table, pictures -> 'key')
        ) as named (field, of_table, key)
        where of_table is not null
        union all
        select field, column_problem(of_table, name, false)
        from (values
            ('vector', own, declaration -> 'vector'), ('user', own, declaration -> 'user'),
            ('write_back.status', own, declaration #> '{write_back,status}'), ('parent.on', own, parent -> 'on'),
            ('pictures.entity', picture_table, pictures -> 'entity'),
            ('pictures.url', picture_table, case when is_name(pictures ->> 'url') then pictures -> 'url' end)
        ) as named (field, of_table, columns)
        cross join unnest(key_columns(columns)) as name
        where of_table is not null
        union all
        select 'write_back', status_problem(own, nullif(declaration -> 'write_back', 'null'))
        union all
        select 'write_back.status', status_input_problem(declaration, own)
        union all
        select field, format('%s of %s: ', written, qualified(own)) || expression_problem(value, rows_read, types)
        from declared_expressions(declaration)
        union all
        select 'parent.on', comparison_problem(parent_table, key_columns(parent -> 'key'), own, key_columns(parent -> 'on'))
        where own is not null and parent_table is not null
        union all
        select 'pictures.entity', comparison_problem(picture_table, key_columns(pictures -> 'entity'), own, key_columns(declaration -> 'key'))
        where own is not null and picture_table is not null
        union all
        select 'triggers', format('%s has a trigger %s already: declare another name for the triggers', qualified(tgrelid), tgname)
        from tables_to_watch(declaration) as watched
        cross join unnest(array['insert', 'update', 'delete', 'truncate']) as event
        join pg_trigger on tgrelid = watched.of_table and tgname = prefix || '_' || event
        join pg_proc on pg_proc.oid = tgfoid
        where pronamespace <> 'matching_pipeline'::regnamespace or proname <> trigger_function(declaration ->> 'name', watched.kind)
    ) as found
    where problem is not null;
end
$$;

-- The words of `opposite` that the property of a source never has, if its value is an enum.
create or replace function opposite_problems(matcher jsonb, source jsonb) returns setof text
language plpgsql set search_path from current as $$
declare
    declared record;
    value_type regtype;
begin
    for declared in
        select opposite.key as property, opposite.value as words, expressions.written, rows_read
        from jsonb_each(matcher -> 'opposite') as opposite
        join declared_expressions(source) as expressions on field = 'properties.' || opposite.key
    loop
        begin
            value_type := (all_columns_read(format('select %s as value from %s', declared.written, declared.rows_read))).types[1]::regtype;
        exception when others then
            -- the source has reported that problem
            continue;
        end;
        return query
        select format('matcher %s: opposite: %s of the source %s is never %s, only %s', matcher ->> 'name', declared.property, source ->> 'name',
            string_agg(word, ' or '), (select string_agg(enumlabel, ', ' order by enumsortorder) from pg_enum where enumtypid = value_type))
        from jsonb_array_elements_text(declared.words) as word
        where exists (select from pg_enum where enumtypid = value_type)
          and not exists (select from pg_enum where enumtypid = value_type and enumlabel = word)
        having count(*) > 0;
    end loop;
end
$$;
