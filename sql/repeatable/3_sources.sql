-- Rows of the app: how their changes become jobs, how workers read them, and how their traces are erased.

-- The id of an entity or an item. A key that is a uuid is its own id. The id of any other key begins with the key's first eight
-- bytes, so ids sort as keys do in collation C, and ends with a part of its hash.
create or replace function key_id(key text) returns uuid
language sql immutable strict parallel safe set search_path from current as $$
    select case
        when key ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then key::uuid
        else encode(
            substring(convert_to(key, 'UTF8') || decode(repeat('00', 8), 'hex') for 8)
                || substring(sha256(convert_to(key, 'UTF8')) for 8), 'hex'
        )::uuid
    end
$$;

-- Call it as `(select key_ids(keys))::uuid[]`, which Postgres computes once. Without the select, a plan that scans the table computes it for each
-- row.
create or replace function key_ids(keys text[]) returns uuid[]
language sql immutable strict parallel safe set search_path from current as $$
    select array(select key_id(key) from unnest(keys) as key)
$$;

-- Enqueues a job for each key, in every queue that serves the source. It sets no search path, which would cost more than the
-- look-up, so it names schemas: an app may have a `cardinality` of its own.
create or replace function enqueue_keys(source_name text, job_kind text, keys text[]) returns void
language plpgsql as $$
begin
    if pg_catalog.cardinality(keys) > 0 then
        perform case
            when queues.work in ('image', 'text') then matching_pipeline.enqueue_for_models(queues.name, source_name, job_kind, keys)
            else matching_pipeline.enqueue_jobs(queues.name, source_name, job_kind, keys, queues.notify)
        end
        from matching_pipeline.sources join matching_pipeline.queues on queues.name = any (sources.queues)
        where sources.name = source_name;
    end if;
end
$$;

-- A failed trigger calls this. It enqueues a table job, and a worker compares the table. It never fails the app's statement.
-- The warnings go to logs, so they have the SQLSTATE and no message, which may quote a row.
create or replace function trigger_failed(source_name text, state text) returns void
language plpgsql set search_path from current as $$
begin
    raise warning 'matching_pipeline: a trigger of the source % failed with SQLSTATE %, so its table is compared with the mirror',
        source_name, state;
    perform enqueue_keys(source_name, 'table', array['']);
exception when others then
    raise warning 'matching_pipeline: a change of the source % is lost until the next resync: SQLSTATE %', source_name, sqlstate;
end
$$;

-- Enqueues entities for the matchers that compare them.
create or replace function enqueue_for_matchers(source_name text, ids uuid[]) returns void
language sql set search_path from current as $$
    select enqueue_jobs(matchers.queue, source_name, 'entity', array(
        select key from entities where source = source_name and id = any (ids)
    ))
    from matchers
    where source_name in (left_source, right_source) and cardinality(ids) > 0
$$;

-- Deletes the pairs of these entities; with `item_ids`, only pairs of these items. Enqueues each entity that loses a listed pair.
-- Returns entities whose pairs another session locks.
create or replace function erase_pairs(source_name text, entity_ids uuid[], item_ids uuid[] default null) returns uuid[]
language plpgsql set search_path from current as $$
declare
    queue_name text;
    other_source text;
    other_keys text[];
begin
    for queue_name, other_source, other_keys in
        with gone as (
            delete from matches where id = any (array (
                select matches.id from matches join matchers on matchers.name = matches.matcher
                where left_source = source_name and left_id = any (entity_ids) and (item_ids is null or left_item = any (item_ids))
                for update of matches skip locked
            ) || array (
                select matches.id from matches join matchers on matchers.name = matches.matcher
                where right_source = source_name and right_id = any (entity_ids) and (item_ids is null or right_item = any (item_ids))
                for update of matches skip locked
            ))
            returning *
        ), listing as (
            select matcher, left_id as id, left_key as key, true as is_left from gone where left_rank is not null
            union
            select matcher, right_id, right_key, false from gone where right_rank is not null
        )
        select matchers.queue, side.source, array_agg(distinct listing.key)
        from listing
        join matchers on matchers.name = listing.matcher
        cross join lateral (values (case when is_left then left_source else right_source end)) as side (source)
        where side.source <> source_name or listing.id not in (select unnest(entity_ids))
        group by matchers.queue, side.source
    loop
        perform enqueue_jobs(queue_name, other_source, 'entity', other_keys);
    end loop;
    return array (
        select left_id from matches join matchers on matchers.name = matches.matcher
        where left_source = source_name and left_id = any (entity_ids) and (item_ids is null or left_item = any (item_ids))
        union
        select right_id from matches join matchers on matchers.name = matches.matcher
        where right_source = source_name and right_id = any (entity_ids) and (item_ids is null or right_item = any (item_ids))
    );
end
$$;

-- Deletes the mirror of these entities, which the caller has locked, table by table: a cascade would do it row by row.
create or replace function erase_mirror(source_name text, entity_ids uuid[]) returns void
language plpgsql set search_path from current as $$
begin
    delete from embeddings where source = source_name and item in (
        select id from items where source = source_name and entity in (select unnest(entity_ids))
    );
    delete from items where source = source_name and entity in (select unnest(entity_ids));
    delete from entities where source = source_name and id in (select unnest(entity_ids));
end
$$;

-- Erases all data of these entities. Waits for no lock. Returns keys that other sessions lock. A worker passes `of_status`,
-- because an unfinished job may belong to a newer change.
create or replace function erase_entities(
    source_name text, keys text[], of_status text[] default array['pending', 'processing', 'completed', 'failed']
) returns text[]
language plpgsql set search_path from current as $$
declare
    skip_before text := coalesce(current_setting('matching_pipeline.skip_matching', true), '');
    free uuid[];
    paired uuid[];
begin
    -- At a stricter isolation level Postgres would abort the app's transaction if a worker has changed a row that this
    -- locks.
    if current_setting('transaction_isolation') <> 'read committed' then
        return keys;
    end if;
    delete from jobs where id = any (array (
        select id from jobs
        where source = source_name and key = any (keys) and status = any (of_status)
          -- The key of an unfinished table job is the position of the comparison.
          and kind not in ('item', 'parent', 'excepted') and (kind <> 'table' or status in ('completed', 'failed'))
        for update skip locked
    ));
    -- an unfinished job of an item stays: the app may have moved the item to another entity
    delete from jobs where id = any (array (
        select id from jobs
        where source = source_name and kind = 'item' and status = any (of_status) and status in ('completed', 'failed')
          and key = any (array (select items.key from items where source = source_name and entity = any ((select key_ids(keys))::uuid[])))
        for update skip locked
    ));
    free := array(
        select id from entities where source = source_name and id = any ((select key_ids(keys))::uuid[]) order by id for update skip locked
    );
    -- `erase_pairs` enqueues what must be matched again, so the triggers need not
    perform set_config('matching_pipeline.skip_matching', 'on', true);
    paired := erase_pairs(source_name, free);
    -- a row that a worker is writing is erased when its job ends
    delete from generated_images where (source, key, image_type) in (
        select source, key, image_type from generated_images where source = source_name and key = any (keys) for update skip locked
    );
    perform erase_mirror(source_name, array(select unnest(free) except select unnest(paired)));
    perform set_config('matching_pipeline.skip_matching', skip_before, true);
    return array(
        select asked.key from unnest(keys) as asked (key)
        where exists (select from jobs where jobs.source = source_name and jobs.key = asked.key and kind = 'entity' and status = any (of_status))
           or exists (select from entities where entities.source = source_name and entities.id = key_id(asked.key))
    );
end
$$;

-- The same for single items. Their entities stay, and are matched again.
create or replace function erase_items(
    source_name text, keys text[], of_status text[] default array['pending', 'processing', 'completed', 'failed']
) returns text[]
language plpgsql set search_path from current as $$
declare
    skip_before text := coalesce(current_setting('matching_pipeline.skip_matching', true), '');
    free uuid[];
    gone uuid[];
    paired uuid[];
    unfinished text[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        return keys;
    end if;
    delete from jobs where id = any (array (
        select id from jobs where source = source_name and kind = 'item' and key = any (keys)
          and status = any (of_status)
        for update skip locked
    ));
    free := array(
        select id from entities
        where source = source_name and id in (
            select entity from items where source = source_name and items.id = any ((select key_ids(keys))::uuid[])
        )
        order by id
        for update skip locked
    );
    gone := array(select id from items where source = source_name and id = any ((select key_ids(keys))::uuid[]) and entity = any (free));
    perform set_config('matching_pipeline.skip_matching', 'on', true);
    paired := erase_pairs(source_name, free, gone);
    delete from items where source = source_name and id = any (gone) and entity not in (select unnest(paired));
    perform set_config('matching_pipeline.skip_matching', skip_before, true);
    perform enqueue_for_matchers(source_name, free);
    -- A worker that wrote the item but has not committed holds a lock on its job.
    unfinished := array(
        select key from jobs
        where source = source_name and kind = 'item' and key = any (keys) and status || '' = 'processing'
          and id <> all (array (
              select id from jobs
              where source = source_name and kind = 'item' and key = any (keys) and status || '' = 'processing'
              for update skip locked
          ))
    );
    return array(
        select asked.key from unnest(keys) as asked (key)
        where exists (select from jobs where jobs.source = source_name and jobs.key = asked.key and kind = 'item' and status = any (of_status))
           or exists (select from items where items.source = source_name and items.id = key_id(asked.key))
           or asked.key = any (unfinished)
    );
end
$$;

-- Erases all data of a truncated table. Every pair of the source is deleted, so there is nothing to match again. A worker erases what
-- another session has locked, and what it may be about to mirror.
create or replace function erase_source(source_name text) returns void
language plpgsql set search_path from current as $$
declare
    skip_before text := coalesce(current_setting('matching_pipeline.skip_matching', true), '');
    free uuid[];
begin
    if current_setting('transaction_isolation') = 'read committed' then
        perform set_config('matching_pipeline.skip_matching', 'on', true);
        delete from jobs where id = any (array (
            select id from jobs where source = source_name and kind <> 'publication' for update skip locked
        ));
        free := array(select id from entities where source = source_name for update skip locked);
        delete from generated_images where (source, key, image_type) in (
            select source, key, image_type from generated_images where source = source_name for update skip locked
        );
        delete from matches where id = any (array (
            select id from matches where matcher in (select name from matchers where source_name in (left_source, right_source))
            for update skip locked
        ));
        perform erase_mirror(source_name, array(
            select unnest(free)
            except
            -- entities of a pair that another session has locked
            select side.id from matches join matchers on matchers.name = matches.matcher
            cross join lateral (values (left_source, left_id), (right_source, right_id)) as side (source, id)
            where side.source = source_name
        ));
        perform set_config('matching_pipeline.skip_matching', skip_before, true);
    end if;
    perform enqueue_keys(source_name, 'table', array['']);
end
$$;

-- Reads rows of the app for a worker, which has no right on the app's tables. `keys` name entities or items. A key that has no row in the result was
-- deleted. A row that does not apply is not an entity of the source now. An entity with pictures has a row for each, or one without an item.
create or replace function read_source(source_name text, job_kind text, keys text[])
returns table (
    entity_key text, applies boolean, has_parent boolean, parent_key text, user_key text, properties jsonb, item_key text,
    content text, embedding vector
)
-- If row-level security hides rows, they would look deleted: this setting makes it an error. In a deadlock with the app's transaction the worker that
-- reads gives up before Postgres would end one of the two.
language plpgsql security definer set search_path from current set row_security = off set lock_timeout = '500ms' as $$
begin
    return query execute source_statement(source_name, job_kind) using keys;
end
$$;

-- The statement of a source that reads rows by such keys. Raises if the declaration gives none.
create or replace function source_statement(source_name text, statement_name text) returns text
language plpgsql stable set search_path from current as $$
declare
    statement text := (select reads ->> statement_name from sources where name = source_name);
begin
    if not exists (select from sources where name = source_name) then
        raise exception 'there is no source %', source_name using errcode = 'undefined_object';
    elsif statement is null then
        raise exception 'the source % has no rows of the kind %', source_name, statement_name using errcode = 'undefined_object';
    end if;
    return statement;
end
$$;

-- The keys of the entities whose rows name these parents.
create or replace function children_of(source_name text, parent_keys text[]) returns setof text
language plpgsql security definer set search_path from current set row_security = off as $$
begin
    return query execute source_statement(source_name, 'parent') using parent_keys;
end
$$;

-- Up to `size` keys of the source's table that come after `after_key`, in the key's own order; from the first if it is empty.
create or replace function source_keys(source_name text, after_key text, size integer) returns setof text
language plpgsql security definer set search_path from current set row_security = off as $$
begin
    return query execute source_statement(source_name, 'range') using nullif(after_key, ''), size;
end
$$;

-- Locks the app's row of the entity until the transaction ends. Returns false if the row is missing, or if it is locked and
-- `waits` is false.
create or replace function lock_entity_row(source_name text, key text, waits boolean) returns boolean
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    statement text := (select reads ->> case when waits then 'lock' else 'lock_free' end from sources where name = source_name);
    found_rows bigint;
begin
    if statement is null then
        return false;
    end if;
    execute statement using key;
    get diagnostics found_rows = row_count;
    return found_rows > 0;
end
$$;
