-- Composes the statements that read the app's rows from a declaration.

-- The white space, control and invisible characters of Unicode. A database with another encoding lacks most of them.
create or replace function blanks() returns text
language sql immutable parallel safe set search_path from current as $$
    select string_agg(chr(code), '')
    from unnest('{[1,32],[127,160],[173,173],[1536,1541],[1564,1564],[1757,1757],[1807,1807],[2192,2193],[2274,2274],[5760,5760],[6158,6158],'
        '[8192,8207],[8232,8239],[8287,8292],[8294,8303],[12288,12288],[65279,65279],[65529,65531],[69821,69821],[69837,69837],[78896,78911],'
        '[113824,113827],[119155,119162],[917505,917505],[917536,917631]}'::int4multirange) as codes,
        generate_series(lower(codes), upper(codes) - 1) as code
    where code < 128 or getdatabaseencoding() = 'UTF8'
$$;

-- The visible part of the content; null if there is none.
create or replace function visible(content text) returns text
language sql immutable parallel safe
return nullif(btrim(content, blanks()), '');

-- A URL of the app's: a path is appended to the base address, and an address stays as it is. In a path # is a character of a file's name. Leading
-- blanks are ignored.
create or replace function absolute_url(url text, base text) returns text
language sql immutable parallel safe set search_path from current as $$
    select case
        when shown.url ~* '^([a-z][a-z0-9+.-]*://|data:|file:)' or shown.url = '' then absolute_url.url
        when shown.url like '//%' then coalesce(substring(lower(base) from '^https?:'), 'https:') || shown.url
        when base ilike 'http%' then rtrim(base, '/') || '/' || replace(ltrim(shown.url, '/'), '#', '%23')
        else rtrim(base, '/') || '/' || ltrim(shown.url, '/')
    end
    from (
        select ltrim(absolute_url.url, blanks())
    ) as shown (url)
$$;

-- A list of the app's as a JSON array; a single value is a list of one.
create or replace function as_list(value jsonb) returns jsonb
language sql immutable strict parallel safe set search_path from current as $$
    select case jsonb_typeof(value) when 'array' then value when 'null' then '[]' else jsonb_build_array(value) end
$$;

-- Whether it is the name of a column, and not an expression.
create or replace function is_name(declared text) returns boolean
language sql immutable strict parallel safe set search_path from current as $$
    select declared ~ '^[[:alpha:]_][[:alnum:]_$]*$'
$$;

-- The SQL for the URL of a picture, which is the row `i` of its table, or the element `i` of a list.
create or replace function picture_url(pictures jsonb) returns text
language sql immutable set search_path from current as $$
    select case
        when pictures ->> 'each' is null then case when is_name(url) then format('i.%I', url) else url end
        when url is null then 'i #>> ''{}'''
        when is_name(url) then format('i ->> %L', url)
        else url
    end
    from (values (pictures ->> 'url')) as declared (url)
$$;

-- The columns that a statement reads of a source, and their tables.
create or replace function read_columns(declaration jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    parent jsonb := nullif(declaration -> 'parent', 'null');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    entity_key text := key_text('t', key_columns(declaration -> 'key'));
    vector_column text := declaration ->> 'vector';
    user_column text := declaration ->> 'user';
    url text := case
        when pictures ->> 'each' is not null then 'i.url'
        when pictures is not null then picture_url(pictures)
        else declaration ->> 'photo'
    end;
    properties text;
    content text;
    text_parts text := (
        select string_agg(format('visible((%s)::text)', part), ', ')
        from jsonb_array_elements_text(nullif(declaration -> 'text', 'null')) as part
    );
begin
    select 'jsonb_build_object(' || coalesce(string_agg(format('%L, (%s)::text', property.key, value), ', '), '') || ')'
    into properties from jsonb_each_text(coalesce(declaration -> 'properties', '{}')) as property;
    content := case
        when url is not null and declaration ->> 'base_url' is not null then format('absolute_url((%s)::text, %L)', url, declaration ->> 'base_url')
        when url is not null then format('(%s)::text', url)
        when vector_column is not null then 'null::text'
        else format('concat_ws(E''\n\n'', %s)', text_parts)
    end;
    return concat_ws(', ',
        entity_key || ' as entity_key',
        format('coalesce((%s), false)%s as applies', coalesce(declaration ->> 'when', 'true'),
            case when vector_column is null then '' else format(' and t.%I is not null', vector_column) end),
        case when parent is null then 'true' else format('p.%I is not null', (key_columns(parent -> 'key'))[1]) end || ' as has_parent',
        case when parent is null then 'null::text' else key_text('t', key_columns(parent -> 'on')) end || ' as parent_key',
        case when user_column is null then 'null::text' else format('(t.%I)::text', user_column) end || ' as user_key',
        properties || ' as properties',
        case
            when pictures ->> 'each' is not null then format('case when i.url is not null then jsonb_build_array(%s, md5(i.url))::text end', entity_key)
            when pictures is not null then key_text('i', key_columns(pictures -> 'key'))
            when url is not null then format('case when visible((%s)::text) is not null then %s end', url, entity_key)
            when text_parts is not null then format('case when coalesce(%s) is not null then %s end', text_parts, entity_key)
            else 'null::text'
        end || ' as item_key',
        content || ' as content',
        case when vector_column is null then 'null::vector' else format('(t.%I)::vector', vector_column) end || ' as embedding'
    );
end
$$;

create or replace function read_tables(declaration jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    key text[] := key_columns(declaration -> 'key');
    parent jsonb := nullif(declaration -> 'parent', 'null');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    condition text := coalesce('coalesce((' || (pictures ->> 'when') || '), false)', 'true');
begin
    return qualified(declared_table(declaration ->> 'table')) || ' as t'
        || case when parent is null then '' else format(' left join %s as p on %s', qualified(declared_table(parent ->> 'table')),
            keys_equal('p', key_columns(parent -> 'key'), 't', key_columns(parent -> 'on'))) end
        || case
            when pictures is null then ''
            when pictures ->> 'each' is not null then format(
                ' left join lateral (select distinct url from (select visible((%s)::text) as url '
                'from jsonb_array_elements(as_list(to_jsonb(%s))) as i where %s) as listed where url is not null) as i on true',
                picture_url(pictures), pictures ->> 'each', condition)
            else format(' left join %s as i on %s and %s', qualified(declared_table(pictures ->> 'table')),
                keys_equal('i', key_columns(pictures -> 'entity'), 't', key), condition)
        end;
end
$$;

-- The statements that `sources` keeps. $1 has the keys, the user, or the key to begin after.
create or replace function source_reads(declaration jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    own regclass := declared_table(declaration ->> 'table');
    own_name text := qualified(declared_table(declaration ->> 'table'));
    key text[] := key_columns(declaration -> 'key');
    key_of_row text := key_text('t', key_columns(declaration -> 'key'));
    ordered text[] := coalesce(key_index_columns(declared_table(declaration ->> 'table'), key_columns(declaration -> 'key')), key_columns(declaration -> 'key'));
    user_column text := declaration ->> 'user';
    parent_columns text[] := key_columns(declaration #> '{parent,on}');
    picture_table regclass := declared_table(declaration #>> '{pictures,table}');
    selected text := format('select %s from %s', read_columns(declaration), read_tables(declaration));
    entity text := selected || ' where ' || key_is_among('t', key, own);
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'entity', entity,
        'item', case
            when declaration #>> '{pictures,each}' is not null then format('select * from (%s where %s) as found where item_key = any ($1)', selected,
                key_is_among('t', key, own, 'array(select asked.key::jsonb ->> 0 from unnest($1) as asked (key))'))
            when picture_table is not null then selected || ' where ' || key_is_among('i', key_columns(declaration #> '{pictures,key}'), picture_table)
        end,
        'parent', case when parent_columns is not null
            then format('select %s from %s as t where %s', key_of_row, own_name, key_is_among('t', parent_columns, own)) end,
        'own', case when user_column is not null
            then format('select %s from %s as t where %s', key_of_row, own_name, key_is_asked('t', array[user_column], own)) end,
        'lock', format('select from %s as t where %s for no key update', own_name, key_is_asked('t', key, own)),
        'lock_free', format('select from %s as t where %s for no key update skip locked', own_name, key_is_asked('t', key, own)),
        'range', (
            select format('select %1$s from %2$s as t where %1$s is not null and ($1 is null or (%3$s) > (%4$s)) order by %3$s limit $2',
                key_of_row, own_name, string_agg(format('t.%I', name), ', ' order by place), string_agg(parts.sql, ', ' order by place))
            from unnest(ordered) with ordinality as named (name, place)
            cross join lateral (select (key_parts(key, own, '$1'))[array_position(key, name)] as sql) as parts
        )
    ));
end
$$;

-- The columns of a table whose change matters: those that the expressions read. Postgres keeps no dependency of a whole row beside
-- those of columns, so an expression that takes the whole row reads all columns.
create or replace function inputs_of(declaration jsonb, of_table regclass, row_name text) returns text[]
language plpgsql set search_path from current as $$
declare
    expressions text := (
        select string_agg(expression #>> '{}', ' ')
        from unnest(array['$.when', '$.photo', '$.properties.*', '$.text[*]', '$.pictures.when', '$.pictures.each', '$.pictures.url']::jsonpath[]) as path
        cross join lateral jsonb_path_query(declaration, path) as expression
    );
begin
    if regexp_replace(expressions, '''[^'']*''', '', 'g') ~ format('\m%s\M(?!\s*\.)', row_name) then
        return array(select attname::text from pg_attribute where attrelid = of_table and attnum > 0 and not attisdropped and attgenerated <> 'v');
    end if;
    return columns_read(format('select %s from %s', read_columns(declaration), read_tables(declaration)), of_table);
end
$$;
