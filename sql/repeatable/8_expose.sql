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

-- The type of the keys of these sources in the app, text where they differ. `pictures` asks for the keys of pictures.
create or replace function key_type(source_names text[], pictures boolean default false) returns text
language sql stable set search_path from current as $$
    select case when count(distinct type) = 1 then min(type) else 'text' end
    from (
        select case
            when pictures and declaration ->> 'pictures' is not null
            then column_type(to_regclass(declaration #>> '{pictures,table}'), declaration #>> '{pictures,key}')
            else column_type(to_regclass(declaration ->> 'table'), declaration ->> 'key')
        end as type
        from sources where name = any (source_names)
    ) as types
$$;

-- The embeddings of pictures, and one function for each source, which enqueues the pictures of an entity.
create or replace function expose_images(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    source_names text[] := array(select jsonb_array_elements_text(declaration -> 'sources'));
    source_name text;
begin
    perform expose_view(of_schema, declaration ->> 'name', format($view$
        select embeddings.source, items.key::%1$s as image_id, embeddings.model, embeddings.dimensions, embeddings.embedding,
            embeddings.attributes, embeddings.input as image_url, embeddings.input_hash as content_hash, embeddings.thumbnail,
            embeddings.vision_model, embeddings.input_tokens, embeddings.output_tokens, embeddings.embedded_at as analyzed_at
        from matching_pipeline.embeddings
        join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
        where embeddings.source = any (%2$L)
    $view$, key_type(source_names, true), source_names));
    foreach source_name in array source_names loop
        perform expose_function(of_schema, format('enqueue_%s_images', source_name), format('%s %s', source_name, key_type(array[source_name])),
            'integer', format('select matching_pipeline.enqueue_entity(%L, $1::text)', source_name));
    end loop;
end
$$;

-- Enqueues all items of an entity again, embedded or not; returns how many. With its owner's rights: embeddings cost money, so a
-- role that asks needs the right to execute this function, and no other.
create or replace function enqueue_entity(source_name text, entity_key text) returns integer
language sql security definer set search_path from current as $$
    select coalesce(sum(enqueue_for_models(queues.name, source_name, each.kind, each.keys)), 0)::integer
    from sources
    join queues on queues.name = any (sources.queues) and queues.work in ('image', 'text')
    cross join lateral (
        select case when declaration ->> 'pictures' is null then 'entity' else 'item' end as kind, array_agg(item_key) as keys
        from read_source(source_name, 'entity', array[entity_key])
        where applies and item_key is not null
    ) as each
    where sources.name = source_name
$$;

-- Has a view of a queue take the app's inserts, updates and deletes, which the trigger function `writer` carries out. Postgres runs
-- triggers in the order of their names: the guard comes first.
create or replace function accept_jobs(of_schema text, view_name text, writer text, queue_name text, source_name text, key_column text)
returns void
language plpgsql set search_path from current as $$
begin
    execute format('create or replace trigger matching_pipeline_guard instead of insert or update or delete on %I.%I '
        'for each row execute function queue_view_guarded()', of_schema, view_name);
    execute format('create or replace trigger matching_pipeline_write instead of insert or update or delete on %I.%I '
        'for each row execute function %I(%L, %L, %L)', of_schema, view_name, writer, queue_name, source_name, key_column);
end
$$;

-- The embeddings of texts, their queue, and the search for similar entities.
create or replace function expose_texts(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    asset text := declaration ->> 'name';
    source_names text[] := array(select jsonb_array_elements_text(declaration -> 'sources'));
    key_column text := declaration ->> 'key_column';
    type text := key_type(array(select jsonb_array_elements_text(declaration -> 'sources')));
begin
    perform expose_view(of_schema, asset, format($view$
        select items.key::%1$s as %2$I, embeddings.model, embeddings.dimensions, embeddings.embedding, embeddings.input_hash,
            embeddings.embedded_at
        from matching_pipeline.embeddings
        join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
        where embeddings.source = any (%3$L)
    $view$, type, key_column, source_names));
    if declaration ->> 'search' is not null then
        perform expose_function(of_schema, declaration ->> 'search', format('job %s, match_count integer default 10', type),
            format('table (%I %s, similarity double precision)', key_column, type),
            format('select key::%s, similarity from matching_pipeline.find_similar(%L, $1::text, match_count)', type, source_names[1]));
    end if;
    if declaration ->> 'queue_view' is null or not expose_view(of_schema, declaration ->> 'queue_view', format($view$
        select id, key::%1$s as %2$I, status,
            attempts - snoozes - case when status in ('processing', 'completed') then 1 else 0 end as retry_count,
            error_message, created_at, completed_at as processed_at
        from matching_pipeline.jobs
        where queue = %3$L and kind = 'entity'
    $view$, type, key_column, asset)) then
        return;
    end if;
    perform accept_jobs(of_schema, declaration ->> 'queue_view', 'text_queue_written', asset, source_names[1], key_column);
end
$$;

-- The entities nearest to this one by the cosine of their embeddings, by the active model; exact. An entity without an
-- embedding has no neighbours, and is not a neighbour of any. With its owner's rights: a role that searches needs the right to execute
-- this function, and no other.
create or replace function find_similar(source_name text, entity_key text, match_count integer default 10)
returns table (key text, similarity double precision)
language sql stable security definer set search_path from current as $$
    select ranked.key, 1 - ranked.distance
    from (
        select items.key, own.embedding <=> other.embedding as distance
        from embeddings as own
        join embeddings as other on other.source = own.source and other.model = own.model and other.item <> own.item
        join items on items.source = other.source and items.id = other.item
        where own.source = source_name and own.item = key_id(entity_key)
          and own.model = (select name from embedding_models where modality = 'text' and status = 'active')
    ) as ranked
    order by ranked.distance, ranked.key
    limit greatest(coalesce(match_count, 10), 0)
$$;

-- A job of the exposed view of a queue of texts. The app may insert one, and may clear `processed_at` and `error_message` of one to have it
-- tried again.
create or replace function text_queue_written() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    queue_name text := tg_argv[0];
    source_name text := tg_argv[1];
    key_of_new text := to_jsonb(new) ->> tg_argv[2];
    found_id uuid;
    answer record;
begin
    if tg_op = 'DELETE' then
        delete from jobs where id = old.id;
        return old;
    end if;
    if tg_op = 'INSERT' then
        if not exists (select from read_source(source_name, 'entity', array[key_of_new])) then
            raise exception '%: there is no % %', tg_table_name, source_name, key_of_new using errcode = 'foreign_key_violation';
        end if;
        perform enqueue_for_models(queue_name, source_name, 'entity', array[key_of_new]);
    elsif new is not distinct from old then
        return new;
    elsif key_of_new is distinct from to_jsonb(old) ->> tg_argv[2] or new.processed_at is not null or new.error_message is not null then
        raise exception '%: to try a job again set its processed_at and error_message to null; nothing else can be set', tg_table_name
            using errcode = 'feature_not_supported';
    elsif old.status = 'failed' then
        perform retry_jobs(queue_name, array[old.id]);
    elsif old.status <> 'processing' then
        perform enqueue_jobs(queue_name, source_name, 'entity', array[key_of_new]);
    end if;
    -- what RETURNING shows
    select id into found_id from jobs
    where queue = queue_name and kind = 'entity' and key = key_of_new and status = 'pending' limit 1;
    if found then
        execute format('select * from %I.%I where id = $1', tg_table_schema, tg_table_name) into answer using found_id;
        return answer;
    end if;
    return new;
end
$$;

-- The pairs of all matchers, a branch each, with the app's own keys; and the queue of each matcher of vectors.
create or replace function expose_matches(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    selects text;
    matcher jsonb;
begin
    with matchers as (
        select value as matcher, value ->> 'name' as matcher_name, ordinality as number
        from jsonb_array_elements(declaration -> 'matchers') with ordinality
    ), own as (
        select matchers.number, columns.name, columns.type, columns.expression,
            (expression in ('left_rank', 'right_rank'))::integer * 1000 + matchers.number * 10 + columns.number as place
        from matchers
        cross join lateral match_columns(matchers.matcher) with ordinality as columns (name, type, expression, number)
    ), shown as (
        -- matchers may share a column
        select name, case count(distinct type) when 1 then min(type) else 'text' end as type, min(place) as place
        from own group by name
    )
    select string_agg(each.statement, ' union all ' order by each.number) into selects
    from (
        select matchers.number, format(
            'select id, matcher as kind, %s, similarity, model, computed_at from matching_pipeline.matches where matcher = %L',
            string_agg(format('(%s)::%s as %I', coalesce(own.expression, 'null'), shown.type, shown.name), ', ' order by shown.place),
            matchers.matcher_name
        ) as statement
        from matchers
        cross join shown
        left join own on own.number = matchers.number and own.name = shown.name
        group by matchers.number, matchers.matcher_name
    ) as each;
    if expose_view(of_schema, declaration ->> 'name', selects) then
        perform open_to_users(of_schema, declaration ->> 'name');
    end if;
    for matcher in select jsonb_array_elements(declaration -> 'matchers') loop
        perform index_exposed_key(
            format('matches_%s_%s_key_idx', matcher ->> 'name', side), 'matches',
            case when key_type(array[source_name]) <> 'uuid' then exposed_key(side, key_type(array[source_name])) end,
            format('matcher = %L', matcher ->> 'name')
        )
        from (values ('left', matcher ->> 'left'), ('right', matcher ->> 'right')) as keys (side, source_name);
        if matcher ->> 'queue_view' is not null then
            perform expose_match_queue(of_schema, matcher);
        end if;
    end loop;
end
$$;

-- Row-level security below the view shows its own rows to each user.
create or replace function open_to_users(of_schema text, name text) returns void
language plpgsql set search_path from current as $$
begin
    if to_regrole('authenticated') is not null then
        execute format('grant select on %I.%I to authenticated', of_schema, name);
    end if;
end
$$;

-- The SQL for an entity's key. A uuid key uses `left_id` or `right_id`, which has an index.
create or replace function exposed_key(side text, type text) returns text
language sql immutable set search_path from current as $$
    select case type when 'uuid' then side || '_id' when 'text' then side || '_key' else format('%s_key::%s', side, type) end
$$;

create or replace function exposed_item(side text, source_name text, type text) returns text
language sql stable set search_path from current as $$
    select case type
        when 'uuid' then side || '_item'
        else format('(select items.key::%s from matching_pipeline.items where items.source = %L and items.id = %s_item)', type, source_name, side)
    end
$$;

-- The columns of the view of matches that a matcher fills: its keys, its pictures where it compares pictures, and its ranks.
create or replace function match_columns(matcher jsonb) returns table (name text, type text, expression text)
language sql stable set search_path from current as $$
    with sides as (
        select side, source_name, column_name, key_type(array[source_name]) as type, key_type(array[source_name], true) as item_type
        from (values
            ('left', matcher ->> 'left', matcher #>> '{columns,0}'), ('right', matcher ->> 'right', matcher #>> '{columns,1}')
        ) as declared (side, source_name, column_name)
    )
    select column_name, type, exposed_key(side, type) from sides
    union all
    select regexp_replace(column_name, '(_id)?$', '_image_id'), item_type, exposed_item(side, source_name, item_type)
    from sides where matcher ->> 'left' <> matcher ->> 'right'
    union all
    select rank.name, 'integer', rank.expression
    from (values ('rank', 'left_rank', true), ('rank_for_a', 'left_rank', false), ('rank_for_b', 'right_rank', false))
        as rank (name, expression, of_two_sources)
    where of_two_sources = (matcher ->> 'left' <> matcher ->> 'right')
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

create or replace function expose_match_queue(of_schema text, matcher jsonb) returns void
language plpgsql set search_path from current as $$
declare
    source_name text := matcher ->> 'left';
    key_column text := matcher ->> 'queue_key';
    source jsonb := (select declaration from sources where name = matcher ->> 'left');
    user_type text := coalesce(column_type(to_regclass(source ->> 'table'), source ->> 'user'), 'text');
begin
    if not expose_view(of_schema, matcher ->> 'queue_view', format($view$
        select id, key::%1$s as %2$I,
            (select user_key::%3$s from matching_pipeline.shown_row(source, key)) as user_id,
            (select embedding from matching_pipeline.shown_row(source, key)) as embedding,
            status, attempts - snoozes as attempts, max_attempts, error_message, created_at, started_at, completed_at
        from matching_pipeline.jobs
        where queue = %4$L and kind = 'entity'
    $view$, key_type(array[source_name]), key_column, user_type, 'matches_' || (matcher ->> 'name'))) then
        return;
    end if;
    perform open_to_users(of_schema, matcher ->> 'queue_view');
    perform accept_jobs(of_schema, matcher ->> 'queue_view', 'match_queue_written', 'matches_' || (matcher ->> 'name'), source_name, key_column);
end
$$;

-- A job of the exposed view of a matcher's queue. The app may insert one, which adds one more job at most, and may retry a failed one.
create or replace function match_queue_written() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    queue_name text := tg_argv[0];
    source_name text := tg_argv[1];
    key_of_new text := to_jsonb(new) ->> tg_argv[2];
    found_id uuid;
    answer record;
begin
    if tg_op = 'DELETE' then
        delete from jobs where id = old.id;
        return old;
    end if;
    if tg_op = 'UPDATE' then
        if old.status = 'failed' and new.status = 'pending' then
            perform retry_jobs(queue_name, array[old.id]);
        elsif new is distinct from old then
            raise exception '%: of a job only its status can be changed, from failed to pending, which retries it', tg_table_name
                using errcode = 'feature_not_supported';
        end if;
        return new;
    end if;
    if not exists (select from read_source(source_name, 'entity', array[key_of_new])) then
        raise exception '%: there is no % %', tg_table_name, source_name, key_of_new using errcode = 'foreign_key_violation';
    end if;
    perform enqueue_jobs(queue_name, source_name, 'entity', array[key_of_new]);
    select id into found_id from jobs
    where queue = queue_name and kind = 'entity' and key = key_of_new and status = 'pending' order by created_at desc limit 1;
    execute format('select * from %I.%I where id = $1', tg_table_schema, tg_table_name) into answer using found_id;
    return answer;
end
$$;

-- Views of all jobs and of product pictures, and functions for external workers.
create or replace function expose_generated_images(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    asset text := declaration ->> 'name';
    source_name text := declaration ->> 'source';
    type text := key_type(array[source_name]);
    row_of_job text := $row$
        id, queue, case when kind in ('single', 'complete_pack') then kind else source end as entity_kind,
        matching_pipeline.key_id(key) as entity_id, payload, status, attempts, snoozes, max_attempts, run_at, error_message,
        created_at, started_at, completed_at
    $row$;
begin
    if expose_view(of_schema, 'job_queue', format('select %s from matching_pipeline.jobs', row_of_job)) then
        perform open_to_users(of_schema, 'job_queue');
        execute format('create or replace trigger matching_pipeline_guard instead of insert on %I.job_queue '
            'for each row execute function queue_view_guarded()', of_schema);
        execute format('create or replace trigger matching_pipeline_write instead of insert on %I.job_queue '
            'for each row execute function job_queue_inserted(%L, %L)', of_schema, asset, source_name);
        perform expose_function(of_schema, 'get_next_job',
            format('queue_name text default %L, batch_size integer default 1, lease interval default ''2 minutes''', asset),
            format('setof %I.job_queue', of_schema),
            format('select %s from matching_pipeline.get_next_job($1, $2, $3)', row_of_job));
    end if;
    perform expose_view(of_schema, asset, format($view$
        select key::%1$s as project_id, image_type, url, width, height, media_type, bytes, model, source_url, source_hash, cost_usd, created_at
        from matching_pipeline.generated_images where source = %2$L
    $view$, type, source_name));
    perform index_exposed_key(
        format('generated_images_%s_key_idx', source_name), 'generated_images', format('key::%s', type), format('source = %L', source_name)
    );
    perform expose_view(of_schema, 'asked_images', format($view$
        select job_id, job_status, key::%1$s as project_id, image_type, "position", prompt, source_url, source_hash, made
        from matching_pipeline.asked_pictures(array(select id from matching_pipeline.jobs where queue = %2$L))
    $view$, type, asset));
    perform expose_view(of_schema, 'project_progress', format($view$
        select projects.key::%1$s as project_id, projects.status,
            (select count(*) from matching_pipeline.generated_images where source = %2$L and key = projects.key) as pictures,
            progress.unfinished as unfinished_jobs, progress.failed as failed_jobs, progress.error_message
        from matching_pipeline.entity_statuses(%2$L) as projects
        cross join lateral (
            select count(*) filter (where jobs.status <> 'failed') as unfinished, count(*) filter (where jobs.status = 'failed') as failed,
                (array_agg(error_message order by coalesce(completed_at, started_at) desc)
                    filter (where error_message is not null))[1] as error_message
            from matching_pipeline.jobs
            where jobs.key = projects.key and source = %2$L and queue = %3$L and jobs.status <> 'completed'
        ) as progress
    $view$, type, source_name, asset));
    perform expose_function(of_schema, 'enqueue_image', format('project %s, image_type text, force boolean default false', type), 'uuid',
        format('select matching_pipeline.request_pictures(%L, %L, ''single'', $1::text, jsonb_build_object(''image_type'', $2, ''force'', $3))', asset, source_name));
    perform expose_function(of_schema, 'enqueue_complete_pack', format('project %s, force boolean default false', type), 'uuid',
        format('select matching_pipeline.request_pictures(%L, %L, ''complete_pack'', $1::text, jsonb_build_object(''force'', $2))', asset, source_name));
    perform expose_function(of_schema, 'mark_job_processing', 'job_id uuid, attempt integer, lease interval default ''2 minutes''', 'boolean',
        'select matching_pipeline.mark_job_processing($1, $2, $3)');
    perform expose_function(of_schema, 'mark_job_completed', 'job_id uuid, attempt integer', 'boolean',
        'select matching_pipeline.mark_job_completed($1, $2)');
    perform expose_function(of_schema, 'mark_job_failed', 'job_id uuid, attempt integer, reason text, permanent boolean default false', 'boolean',
        'select matching_pipeline.mark_job_failed($1, $2, $3, $4)');
    perform expose_function(of_schema, 'snooze_job', 'job_id uuid, attempt integer, delay interval, reason text', 'boolean',
        'select matching_pipeline.snooze_job($1, $2, $3, $4)');
    perform expose_function(of_schema, 'save_generated_image',
        'job_id uuid, attempt integer, image_type text, url text, width integer, height integer, media_type text, bytes bigint, '
        'model text, source_url text, source_hash bytea, cost_usd numeric default null', 'boolean',
        'select matching_pipeline.save_generated_image($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)');
    perform expose_function(of_schema, 'queue_status', 'queue_name text', 'jsonb', 'select matching_pipeline.queue_status($1)');
    perform expose_function(of_schema, 'retry_jobs', 'queue_name text, ids uuid[] default null', 'bigint',
        'select matching_pipeline.retry_jobs($1, $2)');
    perform expose_function(of_schema, 'purge_completed_jobs', 'keep interval default ''7 days'', batch_size integer default 5000', 'bigint',
        'select matching_pipeline.purge_completed_jobs($1, $2)');
end
$$;

-- The app's rows of a source with their status, null where none is declared. Runs with the reader's rights. Unlike a view of
-- the table, it does not block the app's ALTER TABLE.
create or replace function entity_statuses(source_name text) returns table (key text, status text)
language plpgsql stable set search_path from current as $$
declare
    declared jsonb := (select declaration from sources where name = source_name);
    status_column text := declared #>> '{write_back,status}';
begin
    return query execute format(
        'select (%I)::text, %s from %s', declared ->> 'key',
        case when status_column is null then 'null::text' else format('(%I)::text', status_column) end, (declared ->> 'table')::regclass
    );
end
$$;

-- As the app's API inserts it: the kind, the project and the payload are enough. A job of another queue names its source as its kind.
create or replace function job_queue_inserted() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    stored jobs;
begin
    new.queue := coalesce(new.queue, tg_argv[0]);
    new.payload := coalesce(new.payload, '{}');
    if new.queue = tg_argv[0] then
        stored.source := tg_argv[1];
        stored.kind := new.entity_kind;
        new.payload := generation_payload(new.entity_kind, new.payload);
    else
        stored.source := new.entity_kind;
        select case when work = 'image' and declaration ->> 'pictures' is not null then 'item' else 'entity' end into stored.kind
        from queues, sources where queues.name = new.queue and sources.name = new.entity_kind;
        if not found then
            raise exception 'job_queue: there is no queue % or no source %', new.queue, coalesce(new.entity_kind, 'null')
                using errcode = 'foreign_key_violation';
        end if;
    end if;
    insert into jobs (id, queue, source, kind, key, payload, status, attempts, snoozes, max_attempts, run_at, error_message, created_at, started_at, completed_at)
    values (
        coalesce(new.id, gen_random_uuid()), new.queue, stored.source, stored.kind, new.entity_id::text, new.payload,
        coalesce(new.status, 'pending'), coalesce(new.attempts, 0), coalesce(new.snoozes, 0), coalesce(new.max_attempts, 3),
        coalesce(new.run_at, now()), new.error_message, coalesce(new.created_at, now()), new.started_at, new.completed_at
    )
    returning * into stored;
    new.id := stored.id;
    new.payload := stored.payload;
    new.status := stored.status;
    new.attempts := stored.attempts;
    new.snoozes := stored.snoozes;
    new.max_attempts := stored.max_attempts;
    new.run_at := stored.run_at;
    new.created_at := stored.created_at;
    return new;
end
$$;
