-- Attaches sources: composes the statements that read them, and makes their triggers. Each function takes locks on one table of the
-- app at most, so `attach` calls them one after the other. Only the owner may run them.

-- Erases keys that are gone, as far as no other session has locked their traces; a worker erases the rest. So does it with keys
-- that are not mirrored: a worker may be about to mirror one whose row it has read.
create or replace function source_gone(source_name text, job_kind text, keys text[]) returns void
language plpgsql set search_path from current as $$
begin
    if coalesce(cardinality(keys), 0) = 0 then
        return;
    end if;
    perform source_changed(source_name, job_kind, case job_kind
        when 'entity' then array(
            select asked.key from unnest(keys) as asked (key)
            where not exists (select from entities where source = source_name and id = key_id(asked.key))
        ) || erase_entities(source_name, keys)
        when 'item' then array(
            select asked.key from unnest(keys) as asked (key)
            where not exists (select from items where source = source_name and id = key_id(asked.key))
        ) || erase_items(source_name, keys)
        else keys
    end);
end
$$;

create or replace function source_emptied(source_name text, job_kind text) returns void
language plpgsql set search_path from current as $$
begin
    if job_kind = 'entity' then
        perform erase_source(source_name);
    elsif job_kind = 'item' then
        perform source_gone(source_name, 'item', array(select key from items where source = source_name));
    else
        perform source_changed(source_name, 'table', array['']);
    end if;
end
$$;

-- What a statement reads of a source: its columns, and the tables that they are of.
create or replace function read_columns(declaration jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    parent jsonb := nullif(declaration -> 'parent', 'null');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
    key text := declaration ->> 'key';
    vector_column text := declaration ->> 'vector';
    user_column text := declaration ->> 'user';
    properties text;
    content text;
begin
    select 'jsonb_build_object(' || coalesce(string_agg(format('%L, (%s)::text', property.key, value), ', '), '') || ')'
    into properties from jsonb_each_text(coalesce(declaration -> 'properties', '{}')) as property;
    content := case
        when pictures is not null then format('(i.%I)::text', pictures ->> 'url')
        when declaration ->> 'photo' is not null then format('(%s)::text', declaration ->> 'photo')
        when vector_column is not null then 'null::text'
        else (
            select 'concat_ws(E''\n\n'', ' || string_agg(format('nullif(btrim((%s)::text, E'' \t\r\n''), '''')', part), ', ') || ')'
            from jsonb_array_elements_text(declaration -> 'text') as part
        )
    end;
    return concat_ws(', ',
        format('(t.%I)::text as entity_key', key),
        format('coalesce((%s), false)%s as applies', coalesce(declaration ->> 'when', 'true'),
            case when vector_column is null then '' else format(' and t.%I is not null', vector_column) end),
        case when parent is null then 'true' else format('p.%I is not null', parent ->> 'key') end || ' as has_parent',
        case when parent is null then 'null::text' else format('(t.%I)::text', parent ->> 'on') end || ' as parent_key',
        case when user_column is null then 'null::text' else format('(t.%I)::text', user_column) end || ' as user_key',
        properties || ' as properties',
        case when pictures is null then format('(t.%I)::text', key) else format('(i.%I)::text', pictures ->> 'key') end || ' as item_key',
        content || ' as content',
        case when vector_column is null then 'null::vector' else format('(t.%I)::vector', vector_column) end || ' as embedding'
    );
end
$$;

create or replace function read_tables(declaration jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    parent jsonb := nullif(declaration -> 'parent', 'null');
    pictures jsonb := nullif(declaration -> 'pictures', 'null');
begin
    return qualified(declared_table(declaration ->> 'table')) || ' as t'
        || case when parent is null then '' else format(' left join %s as p on p.%I = t.%I',
            qualified(declared_table(parent ->> 'table')), parent ->> 'key', parent ->> 'on') end
        || case when pictures is null then '' else format(' left join %s as i on i.%I = t.%I',
            qualified(declared_table(pictures ->> 'table')), pictures ->> 'entity', declaration ->> 'key') end;
end
$$;

-- The statements that `sources` keeps.
create or replace function source_reads(declaration jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    own regclass := declared_table(declaration ->> 'table');
    own_name text := qualified(declared_table(declaration ->> 'table'));
    key text := declaration ->> 'key';
    key_type text := column_type(declared_table(declaration ->> 'table'), declaration ->> 'key');
    user_column text := declaration ->> 'user';
    parent_column text := declaration #>> '{parent,on}';
    picture_key text := declaration #>> '{pictures,key}';
    columns text := read_columns(declaration);
    tables text := read_tables(declaration);
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'entity', format('select %s from %s where t.%I = any ($1::%s[])', columns, tables, key, key_type),
        'item', case when picture_key is not null then format('select %s from %s where i.%I = any ($1::%s[])', columns, tables, picture_key,
            column_type(declared_table(declaration #>> '{pictures,table}'), picture_key)) end,
        'parent', case when parent_column is not null then format('select (t.%I)::text from %s as t where t.%I = any ($1::%s[])',
            key, own_name, parent_column, column_type(own, parent_column)) end,
        'own', case when user_column is not null then format('select (t.%I)::text from %s as t where t.%I = $1::%s',
            key, own_name, user_column, column_type(own, user_column)) end,
        'lock', format('select from %s where %I = $1::%s for no key update', own_name, key, key_type),
        'lock_free', format('select from %s where %I = $1::%s for no key update skip locked', own_name, key, key_type),
        'range', format('select (t.%1$I)::text from %2$s as t where t.%1$I is not null and ($1 is null or t.%1$I > $1::%3$s) '
            'order by t.%1$I limit $2', key, own_name, key_type)
    ));
end
$$;

-- The columns of a table whose change matters: those that the expressions read. Postgres keeps no dependency of a whole row beside
-- those of columns, so an expression that takes the whole row reads all columns.
create or replace function inputs_of(declaration jsonb, of_table regclass, row_name text) returns text[]
language plpgsql set search_path from current as $$
begin
    if read_columns(declaration) ~ format('(^|[^\\])\m%s\M(?!\s*\.)', row_name) then
        return array(select attname::text from pg_attribute where attrelid = of_table and attnum > 0 and not attisdropped);
    end if;
    return columns_read(format('select %s from %s', read_columns(declaration), read_tables(declaration)), of_table);
end
$$;

-- Begins to attach a source that fits, or to bring it up to date: its row in `sources`, and the functions that its triggers call.
-- `serving` are the queues that get its jobs, of those that are declared here. Other queues may be declared elsewhere. Returns the
-- kinds whose triggers called another body before.
create or replace function attach_source(declaration jsonb, serving text[], declared_queues text[]) returns setof text
language plpgsql set search_path from current as $$
declare
    source_name text := declaration ->> 'name';
    watched record;
begin
    insert into sources (name, declaration, queues, reads) values (source_name, declaration, serving, source_reads(declaration))
    on conflict on constraint sources_pkey do update set
        declaration = excluded.declaration, reads = excluded.reads, attached_at = now(),
        queues = serving || case
            when sources.attached_at is null then '{}'
            else array(select unnest(sources.queues) except select unnest(declared_queues))
        end;
    for watched in select * from watched_tables(source_name) loop
        if make_trigger_function(
            source_name, watched.kind, watched.of_table, watched.key_column,
            case watched.kind
                when 'item' then array[declaration #>> '{pictures,entity}', declaration #>> '{pictures,url}']
                when 'entity' then array_remove(inputs_of(declaration, watched.of_table, 't'), watched.key_column)
                else array_remove(inputs_of(declaration, watched.of_table, 'p'), watched.key_column)
            end,
            case when watched.kind = 'entity' and is_simple_condition(declaration ->> 'when') then declaration ->> 'when' end,
            case when watched.kind = 'entity' then declaration ->> 'vector' end
        ) then
            return next watched.kind;
        end if;
    end loop;
end
$$;

-- Deletes what the pipeline keeps of a source without triggers: with `forget` all of it, and the matchers that compare its entities.
create or replace function detach_source(source_name text, forget boolean default false) returns void
language plpgsql set search_path from current as $$
declare
    each_kind text;
    matcher matchers;
begin
    foreach each_kind in array array['entity', 'parent', 'item'] loop
        execute format('drop function if exists %I()', trigger_function(source_name, each_kind));
    end loop;
    update sources set queues = '{}', attached_at = null where name = source_name;
    if not forget then
        return;
    end if;
    for matcher in select * from matchers where source_name in (left_source, right_source) loop
        delete from matches where matches.matcher = matcher.name;
        delete from matchers where name = matcher.name;
        delete from jobs where queue = matcher.queue;
        update sources set queues = array_remove(queues, matcher.queue) where matcher.queue = any (queues);
    end loop;
    delete from jobs where source = source_name;
    delete from sources where name = source_name;
    delete from embedding_models where name = source_name and modality = 'vector';
end
$$;
