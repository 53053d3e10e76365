-- The views and functions of the embeddings of texts.

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
    select near.key, near.similarity
    from find_near(source_name, array(
        select unnest(array_prepend(embedding, more)) from embeddings
        where source = source_name and item = key_id(entity_key) and model = source_model(source_name)
    ), greatest(coalesce(match_count, 10), 0) + 1) as near
    where source_modality(source_name) = 'text' and near.similarity is not null and near.key <> entity_key
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
