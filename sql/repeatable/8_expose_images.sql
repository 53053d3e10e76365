-- The views and functions of the embeddings of pictures.

-- The embeddings of pictures, and one function for each source, which enqueues the pictures of an entity.
create or replace function expose_images(declaration jsonb) returns void
language plpgsql set search_path from current as $$
declare
    of_schema text := declaration ->> 'expose';
    source_names text[] := array(select jsonb_array_elements_text(declaration -> 'sources'));
    source_name text;
begin
    perform expose_view(of_schema, declaration ->> 'name', format($view$
        select embeddings.source, items.key::%1$s as image_id, embeddings.model, embeddings.dimensions,
            coalesce(embeddings.embedding, embeddings.halves[1]::vector) as embedding, embeddings.attributes,
            embeddings.input as image_url, embeddings.input_hash as content_hash, embeddings.thumbnail,
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

-- Enqueues all items of an entity again, embedded or not; returns how many. Runs with its owner's rights: embeddings cost money, so a role that asks
-- needs only the right to execute this function.
create or replace function enqueue_entity(source_name text, entity_key text) returns integer
language plpgsql security definer set search_path from current as $$
declare
    waits text := coalesce(current_setting('matching_pipeline.status_waits', true), '');
    enqueued integer;
begin
    -- in a trigger of the app this may be the row that is being updated
    perform set_config('matching_pipeline.status_waits', case when pg_trigger_depth() > 0 then 'on' else waits end, true);
    select coalesce(sum(enqueue_for_models(queues.name, source_name, each.kind, each.keys)), 0) into enqueued
    from sources
    join queues on queues.name = any (sources.queues) and queues.work in ('image', 'text', 'derive')
    cross join lateral (
        select case when declaration ->> 'pictures' is null then 'entity' else 'item' end as kind, array_agg(item_key) as keys
        from read_source(source_name, 'entity', array[entity_key])
        where applies and item_key is not null
    ) as each
    where sources.name = source_name;
    perform set_config('matching_pipeline.status_waits', waits, true);
    return enqueued;
end
$$;
