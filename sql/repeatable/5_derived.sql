-- Assets of derived values: a handler of the app's team computes a value from each item. Each asset has a table `derived_NAME`.

-- Makes the table of the asset, or adds the columns that it lacks. `input` is what a value was computed from.
create or replace function attach_derived(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    asset text := declaration ->> 'name';
    results text := 'derived_' || asset;
    declared record;
begin
    execute format('create table if not exists %1$I (source text not null, item uuid not null, input text not null, '
        'derived_at timestamptz not null default now(), constraint %2$I primary key (source, item), '
        'constraint %3$I foreign key (source, item) references items (source, id) on delete cascade)',
        results, results || '_pkey', results || '_item_fkey');
    execute format('alter table %I enable row level security', results);
    execute format('comment on table %I is %L', results, 'the values of the asset ' || asset);
    if to_regrole('service_role') is not null then
        execute format('grant select on %I to service_role', results);
    end if;
    for declared in
        select name, type as stated, type::regtype as type, attribute.atttypid::regtype as present
        from jsonb_each_text(declaration -> 'columns') as columns (name, type)
        left join pg_attribute as attribute on attrelid = results::regclass and attname = name and attnum > 0 and not attisdropped
    loop
        if declared.present is null then
            -- the cast above admits the name of a type only, and drops a length such as that of `char(3)`
            execute format('alter table %I add column %I %s', results, declared.name, declared.stated);
        elsif declared.present <> declared.type then
            raise exception 'columns: % has the type % in matching_pipeline.%: drop that table, and it is made and filled again',
                declared.name, declared.present, results;
        end if;
    end loop;
end
$$;

-- What a value is computed from now: the URL of a picture, or the hash of a text.
create or replace function derived_input(items) returns text
language sql immutable
begin atomic
    select coalesce($1.content, encode($1.content_hash, 'hex'));
end;

-- Those of all items, or of these, whose value is up to date; none for a queue of other work.
create or replace function derived_items(queue_name text, source_name text default null, ids uuid[] default null)
returns table (source text, item uuid)
language plpgsql stable set search_path from current as $$
begin
    if exists (select from queues where name = queue_name and work = 'derive') then
        return query execute format('select items.source, items.id from %I as derived join items on items.source = derived.source '
            'and items.id = derived.item and derived.input = derived_input(items) '
            'where $1 is null or (items.source = $1 and items.id = any ($2))', 'derived_' || queue_name) using source_name, ids;
    end if;
end
$$;

-- Writes the values of items, each an object with `source`, `item`, `input` and the declared columns.
create or replace function write_derived(queue_name text, derived_values jsonb) returns void
language plpgsql set search_path from current as $$
declare
    columns text[] := array(select jsonb_object_keys(derived_values -> 0));
begin
    execute format('insert into %1$I (%2$s) select %2$s from jsonb_populate_recordset(null::%1$I, $1) '
        'on conflict (source, item) do update set derived_at = now(), %3$s', 'derived_' || queue_name,
        (select string_agg(quote_ident(name), ', ') from unnest(columns) as name),
        (select string_agg(format('%1$I = excluded.%1$I', name), ', ') from unnest(columns) as name)) using derived_values;
end
$$;

-- Deletes the item's value if it was computed from another input than the item has now.
create or replace function forget_derived(queue_name text, source_name text, item_key text) returns void
language plpgsql set search_path from current as $$
begin
    execute format('delete from %I as derived using items where items.source = derived.source and items.id = derived.item '
        'and derived.source = $1 and derived.item = key_id($2) and derived.input is distinct from derived_input(items)',
        'derived_' || queue_name) using source_name, item_key;
end
$$;

-- The view of an asset of derived values.
create or replace function expose_derived(declaration jsonb) returns void
language plpgsql set search_path from current as $$
begin
    perform expose_view(declaration ->> 'expose', declaration ->> 'name', format(
        'select derived.source, entities.key, items.key as item, %s, derived.derived_at from matching_pipeline.%I as derived '
        'join matching_pipeline.items on items.source = derived.source and items.id = derived.item '
        'join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity',
        (select string_agg(format('derived.%I', name), ', ') from jsonb_object_keys(declaration -> 'columns') as name),
        'derived_' || (declaration ->> 'name')));
end
$$;
