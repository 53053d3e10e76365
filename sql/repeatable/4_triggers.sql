-- The triggers of a source. They enqueue keys.

-- Whether a condition only compares columns of the row itself with literals, so that the trigger function can compute it. `attach` finds
-- literals of a wrong type. In a trigger a virtual generated column has no value, so a condition that reads one is not simple.
create or replace function is_simple_condition(condition text, row_name text, of_table regclass) returns boolean
language sql stable set search_path from current as $$
    select condition ~* ('^\s*(not\s+)?' || term || '(\s+(and|or)\s+(not\s+)?' || term || ')*\s*$')
        and not exists (select from pg_attribute where attrelid = of_table and attgenerated = 'v' and strpos(lower(condition), lower(attname)) > 0)
    from (values (row_name || (
        '\.("[^"]+"|[a-z_][a-z0-9_]*)(\s+is\s+(not\s+)?(null|true|false)|\s*(=|<>|!=)\s*(''[^'']*''|-?[0-9]+|true|false)'
        '|\s+(not\s+)?in\s*\(\s*(''[^'']*''|-?[0-9]+)(\s*,\s*(''[^'']*''|-?[0-9]+))*\s*\))?'
    ))) as grammar (term)
$$;

create or replace function has_immediate_reference(of_table regclass, columns text[], to_table regclass) returns boolean
language sql stable set search_path from current as $$
    select exists (
        select from pg_constraint
        where contype = 'f' and conrelid = of_table and confrelid = to_table and not condeferrable and convalidated
          and cardinality(conkey) = cardinality(columns)
          and conkey @> array(select attnum from pg_attribute where attrelid = of_table and attname = any (columns))
    )
$$;

-- The tables of a source that get triggers. `kind` says what a key of the table names, and `declared` is the table as the declaration
-- writes it. `prefix` is the first part of the triggers' names, and `watches_inserts` says whether they need an insert trigger.
create or replace function tables_to_watch(declaration jsonb)
returns table (kind text, declared text, of_table regclass, key_columns text[], prefix text, watches_inserts boolean)
language sql stable set search_path from current as $$
    select each.kind, each.declared, declared_table(each.declared), key_columns(each.key), each.prefix, each.watches_inserts
    from (
        select coalesce(declaration ->> 'triggers', 'matching_pipeline_' || (declaration ->> 'name')), declared_table(declaration ->> 'table'),
            nullif(declaration -> 'parent', 'null'), nullif(declaration -> 'pictures', 'null')
    ) as has (prefix, own, parent, pictures)
    cross join lateral (values
        -- With an immediate foreign key the app inserts this row before the row that refers to it. The insert of that row enqueues the job.
        ('entity', declaration ->> 'table', declaration -> 'key', has.prefix, pictures ->> 'table' is null
            or not has_immediate_reference(declared_table(pictures ->> 'table'), key_columns(pictures -> 'entity'), own)),
        ('parent', parent ->> 'table', parent -> 'key', has.prefix || '_parent',
            not has_immediate_reference(own, key_columns(parent -> 'on'), declared_table(parent ->> 'table'))),
        ('item', pictures ->> 'table', pictures -> 'key', has.prefix || '_picture', true)
    ) as each (kind, declared, key, prefix, watches_inserts)
    where each.declared is not null
$$;

create or replace function watched_tables(source_name text)
returns table (kind text, declared text, of_table regclass, key_columns text[], prefix text, watches_inserts boolean)
language sql stable set search_path from current as $$
    select watched.* from sources cross join lateral tables_to_watch(declaration) as watched where name = source_name
$$;

create or replace function trigger_function(source_name text, kind text) returns text
language sql immutable set search_path from current as $$
    select format('%s_%s_changed', source_name, kind)
$$;

-- The triggers on any table that call the trigger functions of the source. `type` is `tgtype` of pg_trigger.
create or replace function existing_triggers(source_name text)
returns table (kind text, name text, of_table regclass, type smallint, is_enabled boolean)
language sql stable set search_path from current as $$
    select each.kind, tgname::text, tgrelid::regclass, tgtype, tgenabled in ('O', 'A')
    from unnest(array['entity', 'parent', 'item']) as each (kind)
    join pg_proc on proname = trigger_function(source_name, each.kind) and pronamespace = 'matching_pipeline'::regnamespace
    join pg_trigger on tgfoid = pg_proc.oid
$$;

-- The triggers that the tables of the source must have, each with its event and the `tgtype` that pg_trigger has for it.
create or replace function needed_triggers(source_name text)
returns table (kind text, of_table regclass, name text, event text, type smallint)
language sql stable set search_path from current as $$
    select kind, of_table, prefix || '_' || event, event, type::smallint
    from watched_tables(source_name)
    cross join (values ('insert', 4), ('update', 16), ('delete', 8), ('truncate', 32)) as events (event, type)
    where of_table is not null and (event <> 'insert' or watches_inserts)
$$;

-- The triggers of a source that are missing, disabled or of another type, or on a table that is not declared any more.
create or replace function trigger_problems(source_name text) returns setof text
language sql stable set search_path from current as $$
    select format('%s on %s is %s', needed.name, qualified(needed.of_table), case when existing.name is null then 'missing' else 'disabled' end)
    from needed_triggers(source_name) as needed
    left join existing_triggers(source_name) as existing using (kind, of_table, name, type)
    where exists (select from sources where name = source_name and attached_at is not null) and is_enabled is not true
    union all
    select format('%s is on %s, which the source does not declare', existing.name, qualified(existing.of_table))
    from existing_triggers(source_name) as existing
    where not exists (
        select from watched_tables(source_name) as watched join sources on sources.name = source_name
        where watched.kind = existing.kind and watched.of_table is not distinct from existing.of_table and attached_at is not null
    )
$$;

-- Makes the function that the triggers of one table call. `inputs` are the columns whose change matters, `condition` is a simple
-- condition over the row, called `row_name`, or null. `blanks` is the column of a vector: when it becomes null, the entity is erased.
-- Returns whether the function was there with another body.
create or replace function make_trigger_function(
    source_name text, kind text, of_table regclass, row_name text, key_columns text[], inputs text[], condition text, blanks text
) returns boolean
language plpgsql set search_path from current as $$
declare
    signature text := format('%I()', trigger_function(source_name, kind));
    former text := (select prosrc from pg_proc where oid = to_regprocedure(signature));
    applies_sql text := coalesce(
        nullif(concat_ws(' and ', '(' || condition || ')', case when blanks is not null then format('t.%I is not null', blanks) end), ''),
        'true'
    );
    differs_sql text;
    body text;
begin
    -- compares bytes: 1.0 and 1.00 are equal and have different texts, and a type such as json has no operator `=`
    select coalesce(string_agg(format('row(old_rows.%1$I)::record *<> row(new_rows.%1$I)::record', input), ' or '), 'false')
    into differs_sql from unnest(inputs) as input;
    -- `erase_keys` erases the keys that it can lock, and a worker erases the others. The trigger ignores an update by `write_status`,
    -- which is not the app's. With `status_waits`, a worker writes the statuses of what it enqueues: see `jobs_write_back`. An assignment
    -- to `ignored` costs less than `perform`.
    body := format($body$
declare
    waits text := coalesce(current_setting('matching_pipeline.status_waits', true), '');
    ignored text;
begin
    %15$s
    begin
        ignored := set_config('matching_pipeline.status_waits', 'on', true);
        if tg_relid is distinct from to_regclass(%7$L) then
            -- another table has the declared name now, so a worker compares all of it
            perform enqueue_keys(%1$L, 'table', array['']);
        elsif tg_op = 'INSERT' then
            perform enqueue_keys(%1$L, %2$L, array(select %9$s from new_rows as %8$I where %4$s));
        elsif tg_op = 'UPDATE' then
            perform enqueue_keys(%1$L, %2$L, array(
                select %10$s
                from (select %8$I.*, %4$s as matching_pipeline_applies from new_rows as %8$I) as new_rows
                left join (select %8$I.*, %4$s as matching_pipeline_applies from old_rows as %8$I) as old_rows
                    on %12$s
                where (old_rows.%3$I is null or %5$s)
                  and (new_rows.matching_pipeline_applies or old_rows.matching_pipeline_applies)
            ));
            perform erase_keys(%1$L, %2$L, array(
                select %11$s from old_rows
                left join new_rows on %12$s
                where new_rows.%3$I is null %6$s
            ));
        elsif tg_op = 'DELETE' then
            perform erase_keys(%1$L, %2$L, array(select %11$s from old_rows));
            -- a trigger of the app may have inserted the key again in the meantime
            perform enqueue_keys(%1$L, %2$L, array(select %9$s from %13$s as %8$I where %14$s and %4$s));
        else
            perform table_emptied(%1$L, %2$L);
        end if;
        ignored := set_config('matching_pipeline.status_waits', waits, true);
    exception when others then
        perform trigger_failed(%1$L, sqlstate);
    end;
    return null;
end
$body$,
        source_name, kind, key_columns[1], applies_sql, differs_sql,
        case when blanks is null then '' else format('or (old_rows.%1$I is not null and new_rows.%1$I is null)', blanks) end,
        qualified(of_table), row_name, key_text(row_name, key_columns), key_text('new_rows', key_columns), key_text('old_rows', key_columns),
        keys_equal('old_rows', key_columns, 'new_rows', key_columns), qualified(of_table), key_is_in(row_name, key_columns, 'old_rows'),
        case when kind = 'entity' then format(
            $if$if tg_op = 'UPDATE' and current_setting('matching_pipeline.status_of', true) = %L then return null; end if;$if$, source_name
        ) end
    );
    execute format(
        'create or replace function %s returns trigger language plpgsql security definer set search_path from current as %L',
        signature, body
    );
    -- Any role that may execute it could attach it to another table and erase entities.
    execute format('revoke execute on function %s from public', signature);
    return former is distinct from body and former is not null;
end
$$;

-- Waits until all transactions have ended that may have called the former body of a trigger function. So the comparison that follows
-- sees their changes.
create or replace function wait_for_writers(source_name text, of_kind text) returns void
language plpgsql set search_path from current as $$
declare
    of_table regclass := (select watched.of_table from watched_tables(source_name) as watched where kind = of_kind);
begin
    execute format('lock table %s in share mode', qualified(of_table));
exception when insufficient_privilege then
    -- The schema's owner may make triggers on the table and not lock it. The daily comparison then finds what those transactions changed.
end
$$;

-- Creates the triggers that are missing or wrong. Each `create trigger` waits for the transactions that have written to the table, and
-- new writing statements wait for it.
create or replace function make_triggers(source_name text, of_kind text) returns void
language plpgsql set search_path from current as $$
declare
    needed record;
    extra record;
begin
    for needed in
        select needed_triggers.* from needed_triggers(source_name)
        where kind = of_kind and not exists (
            select from existing_triggers(source_name) as existing
            where existing.kind = of_kind and existing.of_table = needed_triggers.of_table
              and existing.name = needed_triggers.name and existing.type = needed_triggers.type and is_enabled
        )
    loop
        execute format('create or replace trigger %I after %s on %s %s for each statement execute function %I()',
            needed.name, needed.event, qualified(needed.of_table),
            case needed.event
                when 'insert' then 'referencing new table as new_rows'
                when 'update' then 'referencing old table as old_rows new table as new_rows'
                when 'delete' then 'referencing old table as old_rows'
                else ''
            end, trigger_function(source_name, of_kind));
    end loop;
    for extra in
        select existing.name, existing.of_table
        from existing_triggers(source_name) as existing
        join watched_tables(source_name) as watched using (kind, of_table)
        where kind = of_kind and existing.name not in (select needed_triggers.name from needed_triggers(source_name))
    loop
        execute format('drop trigger %I on %s', extra.name, qualified(extra.of_table));
    end loop;
end
$$;

-- Drops the triggers of a source on this table.
create or replace function drop_triggers(source_name text, from_table regclass) returns void
language plpgsql set search_path from current as $$
declare
    trigger_name text;
begin
    for trigger_name in select name from existing_triggers(source_name) where of_table = from_table loop
        execute format('drop trigger %I on %s', trigger_name, qualified(from_table));
    end loop;
end
$$;
