-- Attaches sources: composes the statements that read them, and makes their triggers. Each function takes locks on one table of the
-- app at most, so `attach` calls them one after the other. Only the owner may run them.

-- Erases keys that were deleted, unless another session has locked their traces. A worker erases those, and keys that are not mirrored: it may be
-- about to mirror a key whose row it has read.
create or replace function erase_keys(source_name text, job_kind text, keys text[]) returns void
language plpgsql set search_path from current as $$
begin
    if coalesce(cardinality(keys), 0) = 0 then
        return;
    end if;
    perform enqueue_keys(source_name, job_kind, case job_kind
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
    -- above that level a worker does it, as every other erasure
    if job_kind = 'entity' and current_setting('transaction_isolation') = 'read committed' then
        -- a row that is gone has no status
        delete from jobs where id = any (array (
            select id from jobs where source = source_name and kind = 'status' and key = any (keys) for update skip locked
        ));
    end if;
end
$$;

-- A truncate of a table calls this.
create or replace function table_emptied(source_name text, job_kind text) returns void
language plpgsql set search_path from current as $$
begin
    if job_kind = 'entity' then
        perform erase_source(source_name);
    elsif job_kind = 'item' then
        perform erase_keys(source_name, 'item', array(select key from items where source = source_name));
    else
        perform enqueue_keys(source_name, 'table', array['']);
    end if;
end
$$;

-- Begins to attach a source that fits, or to bring it up to date: its row in `sources`, and the functions that its triggers call. `serving` are those
-- queues declared here that get its jobs. Other queues may be declared elsewhere. Returns the kinds whose trigger functions had another body before.
create or replace function attach_source(declaration jsonb, serving text[], declared_queues text[]) returns setof text
language plpgsql set search_path from current as $$
declare
    source_name text := declaration ->> 'name';
    watched record;
    row_name text;
    condition text;
begin
    insert into sources (name, declaration, queues, reads) values (source_name, declaration, serving, source_reads(declaration))
    on conflict on constraint sources_pkey do update set
        declaration = excluded.declaration, reads = excluded.reads, attached_at = now(),
        queues = serving || case
            when sources.attached_at is null then '{}'
            else array(select unnest(sources.queues) except select unnest(declared_queues))
        end;
    for watched in select * from watched_tables(source_name) loop
        row_name := case watched.kind when 'entity' then 't' when 'parent' then 'p' else 'i' end;
        condition := case watched.kind when 'entity' then declaration ->> 'when' when 'item' then declaration #>> '{pictures,when}' end;
        if make_trigger_function(
            source_name, watched.kind, watched.of_table, row_name, watched.key_columns,
            array(select unnest(inputs_of(declaration, watched.of_table, row_name)) except select unnest(watched.key_columns) order by 1),
            case when is_simple_condition(condition, row_name, watched.of_table) then condition end,
            case when watched.kind = 'entity' then declaration ->> 'vector' end
        ) then
            return next watched.kind;
        end if;
    end loop;
end
$$;

-- Deletes the queue of a matcher or an asset, with its jobs and those of its shadow, and the pairs of the matcher. Embeddings stay: they belong to
-- the model.
create or replace function detach_queue(queue_name text) returns void
language plpgsql set search_path from current as $$
declare
    names text[] := array[queue_name, queue_name || '_shadow'];
    matcher_name text := (select name from matchers where queue = queue_name);
begin
    if matcher_name is not null then
        -- the app's table keeps the rows that were published
        delete from publications where matcher = matcher_name;
        delete from unpublished_pairs where matcher = matcher_name;
        delete from matches where matcher = matcher_name;
        delete from matchers where name = matcher_name;
    end if;
    update sources set queues = array(select name from unnest(queues) as name where name <> all (names)) where queues && names;
    delete from jobs where queue = any (names);
    delete from pauses where queue = any (names);
    delete from queues where name = queue_name;
end
$$;

-- Detaches a source whose triggers were dropped, and deletes its pending jobs. With `forget` it deletes all that the pipeline keeps of the source,
-- and the matchers that compare its entities.
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
        -- `attach` compares the table again. It does not find the product pictures that were asked for, so their jobs stay.
        delete from jobs where source = source_name and status = 'pending' and kind not in ('single', 'complete_pack');
        return;
    end if;
    for matcher in select * from matchers where source_name in (left_source, right_source) loop
        perform detach_queue(matcher.queue);
    end loop;
    delete from jobs where source = source_name;
    delete from sources where name = source_name;
    delete from embedding_models where name = source_name and modality = 'vector';
end
$$;
