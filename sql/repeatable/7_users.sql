-- A signed-in user of the app, as PostgREST and Supabase know users, sees the jobs and matches of their own entities.

-- The id in the request's JWT; null outside a request.
create or replace function signed_in_user() returns text
language plpgsql stable set search_path from current as $$
begin
    return coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    );
exception when data_exception then
    return null;
end
$$;

-- The entities of the user in every source that declares one. Runs with its owner's rights, so the app's users need no right on these tables.
create or replace function own_entities() returns table (source text, key text, id uuid)
language plpgsql stable security definer set search_path from current set row_security = off as $$
declare
    source_name text;
    statement text;
begin
    if signed_in_user() is null then
        return;
    end if;
    for source_name, statement in select name, reads ->> 'own' from sources where reads ? 'own' and attached_at is not null loop
        begin
            return query execute format('select %L::text, own.key, matching_pipeline.key_id(own.key) from (%s) as own (key)', source_name, statement)
                using signed_in_user();
        exception when data_exception or syntax_error_or_access_rule_violation then
            -- the user's id is of another type than this source's column, or the column is gone
            null;
        end;
    end loop;
end
$$;

-- The same with the matchers that compare them. The caller has no right on `matchers`.
create or replace function own_sides() returns table (matcher text, is_left boolean, id uuid)
language sql stable security definer set search_path from current as $$
    select matchers.name, side.is_left, own.id
    from own_entities() as own
    join matchers on own.source in (left_source, right_source)
    join (values (true), (false)) as side (is_left) on own.source = case when side.is_left then left_source else right_source end
$$;

-- The user and the vector of an entity that belongs to the user.
create or replace function own_row(source_name text, entity_key text) returns table (user_key text, embedding vector)
language sql stable security definer set search_path from current as $$
    select read.user_key, read.embedding from read_source(source_name, 'entity', array[entity_key]) as read
    where read.user_key = signed_in_user()
    limit 1
$$;

-- The part of the app's row that a view of a queue shows. A role that sees all jobs sees all rows, any other role its own rows. It is empty if the
-- row cannot be read, so that its job can be seen all the same.
create or replace function shown_row(source_name text, entity_key text) returns table (user_key text, embedding vector)
language plpgsql stable set search_path from current as $$
begin
    if row_security_active('jobs') then
        return query select own.user_key, own.embedding from own_row(source_name, entity_key) as own;
    else
        return query
            select read.user_key, read.embedding from read_source(source_name, 'entity', array[entity_key]) as read limit 1;
    end if;
exception when others then
    return;
end
$$;

-- The exposed views' triggers act with their owner's rights, past row-level security. Supabase's guides grant the API roles
-- everything in the schema: that grant must not let these roles get past row-level security.
create or replace function queue_view_guarded() returns trigger
language plpgsql set search_path from current as $$
begin
    if current_user in ('anon', 'authenticated') or (
        to_regrole('authenticated') is not null and pg_has_role(current_user, 'authenticated', 'usage')
        and not has_table_privilege(current_user, 'matching_pipeline.jobs', 'insert')
    ) then
        raise exception 'permission denied for view %', tg_table_name using errcode = 'insufficient_privilege';
    end if;
    return coalesce(new, old);
end
$$;
