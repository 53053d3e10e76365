-- Whether a declaration fits the app's tables. Only the owner may run these functions.

-- The table that a declaration names; null where there is none.
create or replace function declared_table(declared text) returns regclass
language plpgsql stable set search_path from current as $$
begin
    return to_regclass(declared);
exception when others then
    return null;
end
$$;

-- The table's name with its schema, quoted where it must be.
create or replace function qualified(of_table regclass) returns text
language sql stable set search_path from current as $$
    select format('%I.%I', nspname, relname)
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace where pg_class.oid = of_table
$$;

-- What is wrong with a table that a declaration names; null where a trigger can watch it.
create or replace function table_problem(declared text) returns text
language plpgsql stable set search_path from current as $$
declare
    found regclass := declared_table(declared);
    relation pg_class;
    alike text;
begin
    if found is null then
        select string_agg(qualified(pg_class.oid), ' or ' order by relname) into alike
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and lower(nspname || '.' || relname) = lower(replace(declared, '"', ''));
        return format('there is no table %s', declared) || coalesce(', but ' || alike, '');
    end if;
    select * into relation from pg_class where oid = found;
    return case
        when relation.relnamespace = 'matching_pipeline'::regnamespace then format('%s is a table of the pipeline itself', declared)
        when relation.relkind not in ('r', 'p') then format('%s is a %s, which has no triggers: declare the table behind it', declared,
            case relation.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table'
                else 'relation of another kind' end)
    end;
end
$$;

create or replace function watchable_table(declared text) returns regclass
language sql stable set search_path from current as $$
    select case when table_problem(declared) is null then declared_table(declared) end
$$;

create or replace function column_type(of_table regclass, column_name text) returns text
language sql stable set search_path from current as $$
    select format_type(atttypid, null) from pg_attribute
    where attrelid = of_table and attname = column_name and attnum > 0 and not attisdropped
$$;

-- What is wrong with a column that a declaration names; null where it fits. A key must have a type whose text names the same row again.
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
        when is_key and not exists (
            select from pg_index
            where indrelid = of_table and indisunique and indimmediate and indpred is null and indnkeyatts = 1 and indkey[0] = attnum
        ) then format('%I of %s is not unique', column_name, qualified(of_table))
    end
    from (select) as always
    left join pg_attribute on attrelid = of_table and attname = column_name and attnum > 0 and not attisdropped
    left join pg_type as base on base.oid = atttypid
$$;

-- The columns of a table that a statement reads, as Postgres itself sees it. Raises where the statement is wrong.
create or replace function columns_read(statement text, of_table regclass) returns text[]
language plpgsql set search_path from current as $$
declare
    found text[];
begin
    execute 'create temporary view matching_pipeline_reads as ' || statement;
    select array_agg(distinct attname::text) into found
    from pg_rewrite
    join pg_depend on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid and refclassid = 'pg_class'::regclass
    join pg_attribute on attrelid = refobjid and attnum > 0 and not attisdropped
        -- 0 stands for the whole row
        and (refobjsubid = 0 or attnum = refobjsubid)
    where ev_class = 'pg_temp.matching_pipeline_reads'::regclass and refobjid = of_table
      and (refobjsubid > 0 or not exists (
          select from pg_depend as named
          where named.classid = 'pg_rewrite'::regclass and named.objid = pg_rewrite.oid
            and named.refclassid = 'pg_class'::regclass and named.refobjid = of_table and named.refobjsubid > 0
      ));
    drop view pg_temp.matching_pipeline_reads;
    return coalesce(found, '{}');
end
$$;

-- Why an expression does not fit these tables, as Postgres says it; null where it fits.
create or replace function expression_problem(expression text, tables text) returns text
language plpgsql set search_path from current as $$
declare
    hint text;
begin
    perform columns_read(format('select %s as value from %s', expression, tables), null);
    return null;
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return concat_ws(': ', sqlerrm, case when hint like 'Perhaps%' then hint end);
end
$$;

-- The words of a status that its column, where it is an enum, cannot hold.
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

-- All that does not fit, each with the field of the declaration.
create or replace function source_problems(declaration jsonb) returns setof text
language plpgsql set search_path from current as $$
declare
    own regclass := watchable_table(declaration ->> 'table');
    parent jsonb := nullif(declaration -> 'parent', 'null');
    parent_table regclass := watchable_table(parent ->> 'table');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    picture_table regclass := watchable_table(pictures ->> 'table');
    tables text := concat_ws(' left join ', qualified(own) || ' as t', qualified(parent_table) || ' as p on true');
begin
    return query
    select format('source %s: %s: %s', declaration ->> 'name', field, problem)
    from (
        select field, table_problem(declared) as problem
        from (values
            ('table', declaration ->> 'table'), ('parent.table', parent ->> 'table'), ('pictures.table', pictures ->> 'table')
        ) as named (field, declared)
        where declared is not null
        union all
        select field, column_problem(of_table, column_name, is_key)
        from (values
            ('key', own, declaration ->> 'key', true), ('vector', own, declaration ->> 'vector', false),
            ('user', own, declaration ->> 'user', false), ('write_back.status', own, declaration #>> '{write_back,status}', false),
            ('parent.on', own, parent ->> 'on', false), ('parent.key', parent_table, parent ->> 'key', true),
            ('pictures.key', picture_table, pictures ->> 'key', true),
            ('pictures.entity', picture_table, pictures ->> 'entity', false),
            ('pictures.url', picture_table, pictures ->> 'url', false)
        ) as named (field, of_table, column_name, is_key)
        where of_table is not null and column_name is not null
        union all
        select 'write_back', status_problem(own, nullif(declaration -> 'write_back', 'null'))
        union all
        select field, expression_problem(expression, tables)
        from (
            select 'when' as field, format('coalesce((%s), false)', declaration ->> 'when') as expression
            where declaration ->> 'when' is not null
            union all
            select 'photo', format('(%s)::text', declaration ->> 'photo') where declaration ->> 'photo' is not null
            union all
            select 'properties.' || key, format('(%s)::text', value) from jsonb_each_text(declaration -> 'properties')
            union all
            select 'text', format('(%s)::text', value) from jsonb_array_elements_text(declaration -> 'text')
            union all
            select 'vector', format('(t.%I)::vector', declaration ->> 'vector')
            where column_type(own, declaration ->> 'vector') is not null
            union all
            select 'parent.on', format('p.%I = t.%I', parent ->> 'key', parent ->> 'on')
            where column_type(parent_table, parent ->> 'key') is not null and column_type(own, parent ->> 'on') is not null
        ) as named
        -- without its tables nothing is known of an expression
        where own is not null and (parent is null or parent_table is not null)
        union all
        select 'pictures.entity', expression_problem(format('i.%I = t.%I', pictures ->> 'entity', declaration ->> 'key'),
            format('%s as i, %s as t', qualified(picture_table), qualified(own)))
        where column_type(picture_table, pictures ->> 'entity') is not null and column_type(own, declaration ->> 'key') is not null
    ) as found
    where problem is not null;
end
$$;
