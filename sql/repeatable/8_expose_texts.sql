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
        select items.key::%1$s as %2$I, embeddings.model, embeddings.dimensions,
            coalesce(embeddings.embedding, embeddings.halves[1]::vector) as embedding, embeddings.input_hash, embeddings.embedded_at
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
    perform accept_jobs(of_schema, declaration ->> 'queue_view', asset, source_names[1], key_column);
end
$$;

-- The entities nearest to this one by the cosine of their embeddings under the active model; exact. An entity without an embedding has no neighbours,
-- and is not a neighbour of any. Runs with its owner's rights: a role that searches needs only the right to execute this function.
create or replace function find_similar(source_name text, entity_key text, match_count integer default 10)
returns table (key text, similarity double precision)
language sql stable security definer set search_path from current as $$
    select near.key, near.similarity
    from find_near(source_name, array(
        select part.embedding from embeddings cross join vectors_of(embedding, more, halves) as part (embedding)
        where source = source_name and item = key_id(entity_key) and model = source_model(source_name)
    ), greatest(coalesce(match_count, 10), 0) + 1) as near
    where source_modality(source_name) = 'text' and near.similarity is not null and near.key <> entity_key
    limit greatest(coalesce(match_count, 10), 0)
$$;
