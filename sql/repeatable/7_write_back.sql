-- The state of an entity's jobs in the app's own column (`write_back`), in the app's words. A transaction that changes jobs writes it.
-- In a trigger of the app's, and if the app's row is locked or refuses the word, a job of the queue `publishing` writes it later.

-- The state that follows from all jobs of the entity and its items; null if there is none.
create or replace function entity_state(source_name text, entity_key text) returns text
language sql stable set search_path from current as $$
    select case
        when bool_or(status = 'processing') then 'processing'
        when bool_or(status = 'pending') then 'pending'
        when bool_or(case when status <> 'failed' then false when kind in ('single', 'complete_pack') then lacks_pictures(id) else true end)
        then 'failed'
        when count(*) > 0 then 'completed'
    end
    from (
        select id, queue, kind, status from jobs
        where key = entity_key and source = source_name and kind in ('entity', 'single', 'complete_pack')
        union all
        select jobs.id, jobs.queue, jobs.kind, jobs.status
        from items join jobs on jobs.key = items.key and jobs.source = items.source and jobs.kind = 'item'
        where items.source = source_name and items.entity = key_id(entity_key)
    ) as own
    -- the jobs of a shadow do not count for the app
    where right(queue, 7) <> '_shadow'
$$;

-- Writes the app's word for `state` into the row's status column. `state` is pending, processing, completed or failed. The literals take the types of
-- the columns. The source's trigger ignores the update. What a trigger of the app changes beside it, such as `updated_at`, is found by the daily
-- comparison: if an expression reads that, each status would enqueue its row again.
create or replace function write_status(source_name text, key text, state text) returns void
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    declared jsonb := (select declaration from sources where name = source_name);
    own regclass := (declared ->> 'table')::regclass;
    statement text := format('update %1$s as t set %2$I = %3$L where %4$s and (t.%2$I)::text is distinct from %3$L', qualified(own),
        declared #>> '{write_back,status}', declared -> 'write_back' ->> state, key_is_asked('t', key_columns(declared -> 'key'), own));
begin
    perform set_config('matching_pipeline.status_of', source_name, true);
    perform set_config('search_path', app_search_path(own), true), set_config('row_security', app_row_security(own), true);
    execute statement using key;
    perform set_config('matching_pipeline.status_of', '', true);
end
$$;

-- Sets the status of an entity. Returns why it is still to be set: its row is locked, or refuses the word. It waits ten milliseconds for a lock at
-- most, also for locks that the app's triggers take, and fails no statement. Above `read committed`, and if a check may come as late as the commit,
-- it is left to a worker.
create or replace function set_entity_status(source_name text, entity_key text) returns text
language plpgsql security definer set search_path from current set row_security = off set lock_timeout = '10ms' as $$
declare
    state text;
    error_state text;
    message text;
    context text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        return 'its transaction is serialized';
    end if;
    if lock_entity_row(source_name, entity_key, waits => false) then
        -- only with the row locked does it see all earlier work of others
        state := entity_state(source_name, entity_key);
        if state is not null then
            perform write_status(source_name, entity_key, state);
        end if;
    elsif exists (select from read_source(source_name, 'entity', array[entity_key])) then
        return 'its row is locked';
    end if;
    return null;
exception when lock_not_available then
    return 'its row is locked';
when others then
    get stacked diagnostics error_state = returned_sqlstate, message = message_text, context = pg_exception_context;
    return told_of(error_state, message, context);
end
$$;

-- Whether a trigger of the app on the table may run as late as at the commit.
create or replace function has_late_trigger(of_table regclass) returns boolean
language sql stable set search_path from current as $$
    select exists (select from pg_trigger where tgrelid = of_table and tgdeferrable and not tgisinternal and tgenabled <> 'D')
$$;

-- The entities of jobs, and items that the mirror does not know yet.
create or replace function entities_of_jobs(changed jobs[]) returns table (source text, key text, is_known boolean)
language sql stable set search_path from current as $$
    select distinct job.source, coalesce(entities.key, job.key), kind <> 'item' or entities.key is not null
    from unnest(changed) as job
    left join items on kind = 'item' and items.source = job.source and items.id = key_id(job.key)
    left join entities on entities.source = items.source and entities.id = items.entity
    where kind in ('entity', 'item', 'single', 'complete_pack') and right(queue, 7) <> '_shadow'
    order by 1, 2
$$;

-- Sets the statuses of the entities whose jobs changed. If a statement of the app on its own table changed them, a worker does it: an update of the
-- row could fail that statement. A trigger of ours on a table of ours, or of a view, may come between. The triggers' arguments are the sources that are
-- written back. The function runs at each insert of jobs, so it must quickly find that the jobs have other sources.
create or replace function jobs_write_back() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    changed jobs[];
    each_source text;
    own regclass;
    known text[];
    unknown text[];
    waits boolean := coalesce(current_setting('matching_pipeline.status_waits', true), '') = 'on' or pg_trigger_depth() > 2;
begin
    if tg_op = 'INSERT' then
        select array_agg(new_rows) into changed from new_rows where source = any (tg_argv);
    elsif tg_op = 'DELETE' then
        -- an equal job waits, another job made it unnecessary, or a person deleted it
        select array_agg(old_rows) into changed from old_rows where status <> 'completed' and source = any (tg_argv);
    else
        select array_agg(new_rows) into changed from new_rows join old_rows on old_rows.id = new_rows.id
        where new_rows.status <> old_rows.status and new_rows.source = any (tg_argv);
    end if;
    if changed is null then
        return null;
    end if;
    for each_source, own, known, unknown in
        select source, of_table, array_agg(key order by key) filter (where is_known), array_agg(key) filter (where not is_known)
        from entities_of_jobs(changed) join written_back() on name = source
        -- the jobs of a deleted row are deleted too
        where tg_op <> 'DELETE' or entity_state(source, key) is not null
        group by source, of_table
        order by source
    loop
        if tg_op = 'UPDATE' then
            -- a worker mirrors a new item in the transaction that completes its job
            perform enqueue_jobs('publishing', each_source, 'status_of_item', unknown);
        end if;
        if not waits and not has_late_trigger(own) then
            known := array(
                select key from unnest(known) as key where set_entity_status(each_source, key) is not null
            );
        end if;
        perform enqueue_jobs('publishing', each_source, 'status', known);
    end loop;
    return null;
end
$$;

-- The attached sources with a status of the app's.
create or replace function written_back() returns table (name text, of_table regclass)
language sql stable set search_path from current as $$
    select name, declared_table(declaration ->> 'table') from sources
    where attached_at is not null and declaration #>> '{write_back,status}' is not null
$$;

-- For a job of the queue `publishing`: sets the status of an entity, or of the entity of an item. Returns why it cannot. An entity whose row
-- is gone is erased.
create or replace function set_kept_status(source_name text, job_kind text, key text) returns text
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    entity_key text := key;
    problem text;
begin
    if not exists (select from written_back() where name = source_name) then
        return null;
    elsif job_kind = 'status_of_item' then
        select entities.key into entity_key from items join entities on entities.source = items.source and entities.id = items.entity
        where items.source = source_name and items.id = key_id(set_kept_status.key);
        if entity_key is null then
            return null;
        end if;
    end if;
    begin
        set constraints all immediate;
        problem := set_entity_status(source_name, entity_key);
    exception when others then
        problem := sqlerrm;
    end;
    if problem is null and not exists (select from read_source(source_name, 'entity', array[entity_key])) then
        perform erase_entities(source_name, array[entity_key], array['completed', 'failed']);
    end if;
    return problem;
end
$$;

-- An expression that reads the status: each status would enqueue its row again.
create or replace function status_input_problem(declaration jsonb, of_table regclass) returns text
language plpgsql set search_path from current as $$
declare
    status_column text := declaration #>> '{write_back,status}';
begin
    if of_table is not null and status_column = any (inputs_of(declaration, of_table, 't')) then
        return format('an expression reads %I of %s: each status that is written would enqueue its row again', status_column, qualified(of_table));
    end if;
    return null;
exception when others then
    -- other problems say why the expressions cannot be read
    return null;
end
$$;

-- There are triggers for the statuses only if a source declares one.
create or replace function make_write_back_triggers() returns void
language plpgsql set search_path from current as $$
declare
    names text := (select string_agg(quote_literal(name), ', ' order by name) from written_back());
    standing text := (
        select substring(pg_get_triggerdef(oid) from 'jobs_write_back[(](.*)[)]$')
        from pg_trigger where tgrelid = 'jobs'::regclass and tgname = 'jobs_write_back_insert'
    );
    event text;
begin
    if names is not distinct from standing then
        return;
    end if;
    foreach event in array array['insert', 'update', 'delete'] loop
        execute case when names is null then format('drop trigger jobs_write_back_%s on jobs', event)
            else format('create or replace trigger jobs_write_back_%1$s after %1$s on jobs referencing %2$s '
                'for each statement execute function jobs_write_back(%3$s)', event,
                case event when 'insert' then '' else 'old table as old_rows ' end || case event when 'delete' then '' else 'new table as new_rows' end, names)
        end;
    end loop;
end
$$;
