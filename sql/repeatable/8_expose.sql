-- Views and functions in a schema of the app's, under the names that apps know. If the app already has a relation or
-- function with that name, we make nothing and warn.

-- Creates or replaces a view of ours; says whether the name was free. The view keeps the grants that its owner gave.
create or replace function expose_view(of_schema text, name text, definition text) returns boolean
language plpgsql set search_path from current as $$
declare
    full_name text := format('%I.%I', of_schema, name);
    standing oid := to_regclass(full_name);
    grants aclitem[] := (select relacl from pg_class where oid = to_regclass(full_name));
begin
    if standing is not null and obj_description(standing, 'pg_class') is distinct from 'exposed by matching_pipeline' then
        raise warning '% is not made: the app has a relation of that name', full_name;
        return false;
    end if;
    begin
        execute format('create or replace view %s with (security_invoker = true) as %s', full_name, definition);
    exception when invalid_table_definition then
        execute format('drop view %s', full_name);
        execute format('create view %s with (security_invoker = true) as %s', full_name, definition);
    end;
    if standing is distinct from to_regclass(full_name) then
        perform close_to_api(full_name);
        perform grant_again(full_name, grants);
    end if;
    execute format('comment on view %s is %L', full_name, 'exposed by matching_pipeline');
    if to_regrole('service_role') is not null then
        execute format('grant select, insert, update, delete on %s to service_role', full_name);
    end if;
    return true;
end
$$;

-- Supabase gives every new view to its API roles.
create or replace function close_to_api(view_name text) returns void
language plpgsql set search_path from current as $$
declare
    outsider text;
begin
    foreach outsider in array array['public', 'anon', 'authenticated'] loop
        if outsider = 'public' or to_regrole(outsider) is not null then
            execute format('revoke all on %s from %s', view_name, outsider);
        end if;
    end loop;
end
$$;

-- Restores the grants of an object that was dropped and made again. `object` is the name of a view, or `function` and its
-- signature.
create or replace function grant_again(object text, grants aclitem[]) returns void
language plpgsql set search_path from current as $$
declare
    granted text;
begin
    for granted in
        select format('grant %s on %s to %s%s', privilege_type, object,
            case grantee when 0 then 'public' else grantee::regrole::text end,
            case when is_grantable then ' with grant option' else '' end)
        from aclexplode(grants) where grantee <> grantor
    loop
        execute granted;
    end loop;
end
$$;

-- Creates or replaces a function of ours, which runs with the caller's rights. It keeps the grants that its owner gave.
create or replace function expose_function(of_schema text, name text, parameters text, returns_what text, body text) returns void
language plpgsql set search_path from current as $$
declare
    signature text := format('%I.%I(%s)', of_schema, name, (
        select string_agg(regexp_replace(parameter, '^\S+\s+|\s+default\s.*$', '', 'g'), ', ')
        from regexp_split_to_table(parameters, ',\s*') as parameter
    ));
    definition text := format('function %I.%I(%s) returns %s language sql as %L', of_schema, name, parameters, returns_what, body);
    standing pg_proc;
    grants aclitem[];
begin
    for standing in
        select * from pg_proc where proname = name and pronamespace = to_regnamespace(quote_ident(of_schema))
    loop
        if obj_description(standing.oid, 'pg_proc') is distinct from 'exposed by matching_pipeline' then
            raise warning '%.% is not made: the app has a function of that name', of_schema, name;
            return;
        end if;
        grants := standing.proacl;
        if standing.oid is distinct from to_regprocedure(signature) then
            execute format('drop function %s', standing.oid::regprocedure);
        end if;
    end loop;
    standing.oid := to_regprocedure(signature);
    begin
        execute 'create or replace ' || definition;
    exception when invalid_function_definition then
        execute format('drop function %s', signature);
        execute 'create ' || definition;
    end;
    if standing.oid is distinct from to_regprocedure(signature) then
        perform grant_again('function ' || signature, grants);
    end if;
    execute format('comment on function %s is %L', signature, 'exposed by matching_pipeline');
end
$$;

-- The type of the keys of a declared source in the app, text if they have several columns. `pictures` asks for the keys of its pictures.
create or replace function declared_key_type(declaration jsonb, pictures boolean default false) returns text
language sql stable set search_path from current as $$
    select coalesce(case
        when not pictures or declaration ->> 'pictures' is null then column_type(to_regclass(declaration ->> 'table'), declaration ->> 'key')
        else column_type(to_regclass(declaration #>> '{pictures,table}'), declaration #>> '{pictures,key}')
    end, 'text')
$$;

-- The type of the keys of these attached sources, text if they differ.
create or replace function key_type(source_names text[], pictures boolean default false) returns text
language sql stable set search_path from current as $$
    select case when count(distinct type) = 1 then min(type) else 'text' end
    from (select declared_key_type(declaration, pictures) as type from sources where name = any (source_names)) as types
$$;

-- Makes a view of a queue accept the app's inserts, updates and deletes. Postgres runs triggers in the order of their names: the guard
-- comes first.
create or replace function accept_jobs(of_schema text, view_name text, queue_name text, source_name text, key_column text) returns void
language plpgsql set search_path from current as $$
begin
    execute format('create or replace trigger matching_pipeline_guard instead of insert or update or delete on %I.%I '
        'for each row execute function queue_view_guarded()', of_schema, view_name);
    execute format('create or replace trigger matching_pipeline_write instead of insert or update or delete on %I.%I '
        'for each row execute function queue_view_written(%L, %L, %L)', of_schema, view_name, queue_name, source_name, key_column);
end
$$;

-- A job of an exposed view of a queue. The app may insert one, which adds one more job at most. It may also have a failed job tried again, by setting
-- its status to pending; for texts, by clearing `processed_at` and `error_message`.
create or replace function queue_view_written() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    queue_name text := tg_argv[0];
    source_name text := tg_argv[1];
    row_of_new jsonb := to_jsonb(new);
    key_of_new text := row_of_new ->> tg_argv[2];
    is_of_texts boolean := row_of_new ? 'processed_at';
    found_id uuid;
    answer record;
begin
    if tg_op = 'DELETE' then
        delete from jobs where id = old.id;
        return old;
    elsif tg_op = 'INSERT' then
        if not exists (select from read_source(source_name, 'entity', array[key_of_new])) then
            raise exception '%: there is no % %', tg_table_name, source_name, key_of_new using errcode = 'foreign_key_violation';
        end if;
        perform enqueue_for_models(queue_name, source_name, 'entity', array[key_of_new]);
    elsif new is not distinct from old then
        return new;
    elsif not is_of_texts and (old.status <> 'failed' or new.status <> 'pending') then
        raise exception '%: of a job only its status can be changed, from failed to pending, which retries it', tg_table_name
            using errcode = 'feature_not_supported';
    elsif is_of_texts and (
        key_of_new is distinct from to_jsonb(old) ->> tg_argv[2] or row_of_new ->> 'processed_at' is not null or new.error_message is not null
    ) then
        raise exception '%: to try a job again set its processed_at and error_message to null; nothing else can be set', tg_table_name
            using errcode = 'feature_not_supported';
    elsif old.status = 'failed' then
        perform retry_jobs(queue_name, array[old.id]);
    elsif old.status <> 'processing' then
        perform enqueue_jobs(queue_name, source_name, 'entity', array[key_of_new]);
    end if;
    -- the row for RETURNING
    select id into found_id from jobs
    where queue = queue_name and kind = 'entity' and key = key_of_new and status = 'pending' order by created_at desc limit 1;
    if found then
        execute format('select * from %I.%I where id = $1', tg_table_schema, tg_table_name) into answer using found_id;
        return answer;
    end if;
    return new;
end
$$;

-- Row-level security of the tables below the view shows each user only their own rows.
create or replace function open_to_users(of_schema text, name text) returns void
language plpgsql set search_path from current as $$
begin
    if to_regrole('authenticated') is not null then
        execute format('grant select on %I.%I to authenticated', of_schema, name);
    end if;
end
$$;

-- An index on a view's key column, cast to the app's type. If that type changes, this drops the old index.
create or replace function index_exposed_key(index_name text, of_table text, expression text, condition text) returns void
language plpgsql set search_path from current as $$
begin
    if obj_description(to_regclass(format('matching_pipeline.%I', index_name)), 'pg_class') is distinct from expression then
        execute format('drop index if exists matching_pipeline.%I', index_name);
        if expression is not null then
            execute format('create index %I on %I ((%s)) where %s', index_name, of_table, expression, condition);
            execute format('comment on index %I is %L', index_name, expression);
        end if;
    end if;
exception when data_exception then
    raise warning 'the index % is not made: % has rows with keys of another type, which the app had before', index_name, of_table;
end
$$;
