-- Published pairs: the pairs of a matcher in a table of the app, written in the transaction that writes `matches`. A pair that the
-- app's table refuses is kept in `unpublished_pairs`, and a job of the queue `publishing` writes it later.

-- The search path for triggers of the app on a table, without our schemas.
create or replace function app_search_path(of_table regclass) returns text
language sql stable set search_path from current as $$
    select string_agg(quote_ident(nspname), ', ' order by place) || ', pg_temp'
    from (
        select nspname, min(place) as place
        from (
            select nspname, 1 as place from pg_class join pg_namespace on pg_namespace.oid = relnamespace where pg_class.oid = of_table
            union all
            select nspname, 2 + (nspname = 'extensions')::integer from pg_namespace where nspname in ('public', 'extensions')
        ) as schemas group by nspname
    ) as found
$$;

-- Whether a constraint of the table, or of one that refers to it, may be checked as late as at the commit.
create or replace function checks_late(of_table regclass) returns boolean
language sql stable set search_path from current as $$
    select exists (select from pg_trigger where tgrelid = of_table and tgdeferrable and tgenabled <> 'D')
$$;

-- Whether the app's policies apply to its triggers, which is the server's default. If policies hide rows of the table itself from us, `off` makes it
-- an error.
create or replace function app_row_security(of_table regclass) returns text
language sql stable set search_path from current as $$
    select case when row_security_active(of_table) then 'off' else 'on' end
$$;

-- Whether an error comes from the matcher's table or its declaration, for example a missing column, table or right, and not from some rows. A policy
-- or a trigger of the app may also refuse a right for one row.
create or replace function is_fault_of_table(state text, matcher jsonb) returns boolean
language sql stable set search_path from current as $$
    select state ~ '^(0A|3F|42|54|55000)' and (state <> '42501' or exists (select from publication_problems(matcher)))
$$;

-- The text for an error. Other messages than these may quote a row, and so may those of `raise` in a function of the app.
create or replace function told_of(state text, message text, context text) returns text
language sql immutable as $$
    select case when state ~ '^(0A|3F|40|42|54|55|23)' and coalesce(context, '') !~ '^[^\n]* at RAISE' then message
        else format('SQLSTATE %s%s', state, coalesce(' in ' || nullif(substring(context from '(?n)^.*function .*$'), ''), '')) end
$$;

-- Keeps pairs, or all pairs of the matcher, for a job of the queue `publishing`, which the caller enqueues.
create or replace function keep_unpublished(matcher_name text, left_keys text[], right_keys text[], why text) returns void
language plpgsql set search_path from current as $$
begin
    if left_keys is null then
        insert into unpublished_pairs (matcher, reason)
        select matcher_name, why
        where not exists (
            select from unpublished_pairs
            where matcher = matcher_name and left_key is null and (reason is null) = (why is null)
        );
    else
        insert into unpublished_pairs (matcher, left_key, right_key, reason)
        select matcher_name, left_key, right_key, why from unnest(left_keys, right_keys) as pair (left_key, right_key)
        on conflict do nothing;
    end if;
end
$$;

create or replace function enqueue_publishing(matcher_name text) returns integer
language sql set search_path from current as $$
    select enqueue_jobs('publishing', left_source, 'publication', array[name]) from matchers where name = matcher_name
$$;

-- Whether the table of a publication has a fault. A worker looks whether it is corrected.
create or replace function is_suspended(matcher_name text) returns boolean
language sql stable set search_path from current as $$
    select exists (select from unpublished_pairs where matcher = matcher_name and left_key is null and reason is not null)
$$;

-- Writes changed pairs into the app's tables. It fails no statement: pairs that a table refuses are kept for later. It waits ten milliseconds for a
-- lock at most. In a transaction of the app (a depth of 2) it causes no late check. At a greater depth it is inside a trigger of the app, which may
-- run before a row of the published table is written. Then it writes nothing.
create or replace function matches_published() returns trigger
language plpgsql security definer set search_path from current set row_security = off set lock_timeout = '10ms' as $$
declare
    our_path text := current_setting('search_path');
    publication record;
    left_keys text[];
    right_keys text[];
    removes boolean := tg_op in ('DELETE', 'TRUNCATE');
    is_fault boolean;
    kept bigint := 0;
    state text;
    message text;
    context text;
begin
    if tg_op in ('INSERT', 'UPDATE') then
        -- an upsert fires both triggers, also without rows
        if not exists (select from new_rows) then
            return null;
        end if;
    end if;
    for publication in
        select publications.matcher, statements ->> case tg_op when 'DELETE' then 'lost' when 'TRUNCATE' then 'emptied' else 'changed' end as statement,
            declaration, declared_table(declaration #>> '{publish,table}') as target
        from publications join matchers on matchers.name = publications.matcher
    loop
        if tg_op = 'DELETE' then
            select array_agg(left_key), array_agg(right_key) into left_keys, right_keys
            from old_rows where matcher = publication.matcher;
        elsif tg_op = 'TRUNCATE' then
            select array_agg(left_key), array_agg(right_key) into left_keys, right_keys
            from matches where matcher = publication.matcher;
        else
            select array_agg(left_key), array_agg(right_key) into left_keys, right_keys
            from new_rows where matcher = publication.matcher;
        end if;
        if left_keys is null or publication.statement is null then
            continue;
        elsif is_suspended(publication.matcher) or pg_trigger_depth() > 2
            or (pg_trigger_depth() > 1 and checks_late(publication.target)) then
            -- a comparison finds what is missing for a pair that still matches
            if removes or not is_suspended(publication.matcher) then
                perform keep_unpublished(publication.matcher, left_keys, right_keys, null);
                perform enqueue_publishing(publication.matcher);
            end if;
            continue;
        end if;
        begin
            perform set_config('search_path', app_search_path(publication.target), true),
                set_config('row_security', app_row_security(publication.target), true);
            if removes then
                execute publication.statement into kept;
            else
                execute publication.statement;
            end if;
            if pg_trigger_depth() = 1 then
                -- constraints of other tables that triggers of the app write are checked here too, not at the commit
                set constraints all immediate;
            end if;
            perform set_config('search_path', our_path, true), set_config('row_security', 'off', true);
            if kept > 0 then
                perform enqueue_publishing(publication.matcher);
            end if;
        exception when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, context = pg_exception_context;
            message := told_of(state, message, context);
            is_fault := is_fault_of_table(state, publication.declaration);
            if is_fault then
                perform keep_unpublished(publication.matcher, null, null, message);
            end if;
            if removes or (not is_fault and cardinality(left_keys) <= 1000) then
                -- another session releases the lock later
                perform keep_unpublished(publication.matcher, left_keys, right_keys, case when state !~ '^(40|55P)' then message end);
            elsif not is_fault then
                perform keep_unpublished(publication.matcher, null, null, null);
            end if;
            perform enqueue_publishing(publication.matcher);
        end;
    end loop;
    return null;
end
$$;

-- Looks whether the table of a publication takes pairs now. Returns what is in the way, null if nothing is. The caller holds the lists of the matcher
-- alone. From the end of its transaction on, changed pairs are published at once again.
create or replace function resume_publication(matcher_name text) returns text
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    declared jsonb := (select declaration from matchers where name = matcher_name);
    problem text;
    message text;
    context text;
begin
    begin
        problem := (select string_agg(misfit, '; ') from publication_problems(declared) as misfit);
        if problem is null then
            update publications set statements = publication_statements(declared)
            where matcher = matcher_name and statements <> publication_statements(declared);
            -- finds what only the server can tell, such as row-level security that hides rows
            execute (select statements ->> 'range' from publications where matcher = matcher_name)
                using 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid, null::uuid;
        end if;
    exception when others then
        get stacked diagnostics message = message_text, context = pg_exception_context;
        problem := told_of(sqlstate, message, context);
    end;
    if problem is not null then
        perform keep_unpublished(matcher_name, null, null, problem);
    end if;
    update unpublished_pairs set reason = problem
    where matcher = matcher_name and left_key is null and reason is distinct from problem;
    return problem;
end
$$;

-- Compares the pairs of about `size` left entities from the one after `after` on. Returns the last one, null at the end.
create or replace function publish_range(matcher_name text, after uuid, size integer) returns uuid
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    our_path text := current_setting('search_path');
    target regclass := (select declared_table(declaration #>> '{publish,table}') from matchers where name = matcher_name);
    until uuid := (
        select left_id from matches where matcher = matcher_name and (after is null or left_id > after)
        order by left_id offset size - 1 limit 1
    );
begin
    begin
        set constraints all immediate;
        perform set_config('search_path', app_search_path(target), true), set_config('row_security', app_row_security(target), true);
        execute (select statements ->> 'range' from matching_pipeline.publications where matcher = matcher_name) using after, until;
        perform set_config('search_path', our_path, true), set_config('row_security', 'off', true);
    exception when others then
        perform keep_unpublished(matcher_name, array_agg(left_key), array_agg(right_key), null)
        from matches
        where matcher = matcher_name and (after is null or left_id > after) and (until is null or left_id <= until)
        having count(*) > 0;
    end;
    return until;
end
$$;

-- Writes the rows of those of these pairs that match, and removes the others. Halves them until a refused pair is alone.
create or replace function publish_pairs(matcher_name text, left_keys text[], right_keys text[]) returns void
language plpgsql security definer set search_path from current set row_security = off as $$
declare
    our_path text := current_setting('search_path');
    declared jsonb := (select declaration from matchers where name = matcher_name);
    target regclass := declared_table(declared #>> '{publish,table}');
    middle integer := cardinality(left_keys) / 2;
    statement text;
    state text;
    message text;
    context text;
begin
    begin
        set constraints all immediate;
        foreach statement in array array['gone', 'pairs'] loop
            statement := (select statements ->> statement from matching_pipeline.publications where matcher = matcher_name);
            if statement is not null then
                perform set_config('search_path', app_search_path(target), true), set_config('row_security', app_row_security(target), true);
                execute statement using left_keys, right_keys;
                perform set_config('search_path', our_path, true), set_config('row_security', 'off', true);
            end if;
        end loop;
        delete from unpublished_pairs as kept using unnest(left_keys, right_keys) as pair (left_key, right_key)
        where kept.matcher = matcher_name and kept.left_key = pair.left_key and kept.right_key = pair.right_key;
        return;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, context = pg_exception_context;
    end;
    if is_fault_of_table(state, declared) then
        perform keep_unpublished(matcher_name, null, null, told_of(state, message, context));
    elsif middle > 0 then
        perform publish_pairs(matcher_name, left_keys[:middle], right_keys[:middle]);
        perform publish_pairs(matcher_name, left_keys[middle + 1:], right_keys[middle + 1:]);
    else
        update unpublished_pairs set reason = told_of(state, message, context)
        where matcher = matcher_name and left_key = left_keys[1] and right_key = right_keys[1];
    end if;
end
$$;

-- Enqueues the kept pairs, and once a day the comparison of each published table. Returns the matchers.
create or replace function enqueue_due_publications() returns setof text
language plpgsql set search_path from current as $$
begin
    return query with due as (
        update publications set compared_at = now() where compared_at < now() - interval '1 day' returning matcher
    )
    select matcher from due cross join lateral keep_unpublished(matcher, null, null, null);
    perform enqueue_publishing(matcher) from (select distinct matcher from unpublished_pairs) as kept;
end
$$;

-- The tables of the app that get the pairs of matchers, and what prevents it.
create or replace function publication_states()
returns table (matcher text, "table" text, unpublished bigint, is_compared boolean, reasons text[])
language sql stable set search_path from current as $$
    select publications.matcher, declaration #>> '{publish,table}', count(left_key), bool_or(unpublished_pairs.id is not null and left_key is null) is not true,
        coalesce(array_agg(distinct reason) filter (where reason is not null), '{}')
    from publications
    join matchers on matchers.name = publications.matcher
    left join unpublished_pairs on unpublished_pairs.matcher = publications.matcher
    group by publications.matcher, declaration
$$;
