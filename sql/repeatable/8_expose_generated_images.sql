-- The views and functions of product pictures and of all jobs.

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

-- The app's rows of a source with their status, null if none is declared. Runs with the reader's rights. Unlike a view of
-- the table, it does not block the app's ALTER TABLE.
create or replace function entity_statuses(source_name text) returns table (key text, status text)
language plpgsql stable set search_path from current as $$
declare
    declared jsonb := (select declaration from sources where name = source_name);
    status_column text := declared #>> '{write_back,status}';
begin
    return query execute format(
        'select %s, %s from %s as t', key_text('t', key_columns(declared -> 'key')),
        case when status_column is null then 'null::text' else format('(t.%I)::text', status_column) end, (declared ->> 'table')::regclass
    );
end
$$;

-- Accepts a job as the app's API inserts it: the kind, the project and the payload are enough. The kind of a job of another queue is the name of its
-- source.
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
