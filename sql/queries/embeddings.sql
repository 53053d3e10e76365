-- name: known_analyses
select distinct on (input_hash)
    input_hash as content_hash, coalesce(embedding, halves[1]::vector) as embedding, attributes, thumbnail, vision_model, input_tokens, output_tokens
from matching_pipeline.embeddings
where input_hash = any (%(content_hashes)s::bytea[]) and model = any (%(models)s)
order by input_hash

-- name: seen_pictures
-- those that were fetched from the URL that their item has now
select embeddings.source, items.key as item_key, embeddings.input as url, version, input_hash as content_hash
from unnest(%(sources)s::text[], %(item_keys)s::text[]) as asked (source, item_key)
join matching_pipeline.items on items.source = asked.source and items.id = matching_pipeline.key_id(asked.item_key)
join matching_pipeline.embeddings on embeddings.source = items.source and embeddings.item = items.id and embeddings.model = %(model)s
where version is not null and input_hash is not null

-- name: known_embeddings
-- the vectors of all parts
select distinct on (input_hash) input_hash, array(select part from matching_pipeline.vectors_of(embedding, more, halves) as part)
from matching_pipeline.embeddings
where input_hash = any (%(input_hashes)b::bytea[]) and model = any (%(models)s)
order by input_hash

-- name: write_image_embeddings
insert into matching_pipeline.embeddings (
    source, item, model, dimensions, embedding, attributes, input, input_hash, thumbnail, vision_model, input_tokens,
    output_tokens, version
)
select source, matching_pipeline.key_id(item_key), %(model)s, vector_dims(embedding), embedding, attributes, input, content_hash,
    thumbnail, vision_model, input_tokens, output_tokens, version
from unnest(
    %(source)s::text[], %(item_key)s::text[], %(embedding)s::vector[], %(attributes)s::jsonb[], %(input)s::text[],
    %(content_hash)s::bytea[], %(thumbnail)s::bytea[], %(vision_model)s::text[], %(input_tokens)s::integer[],
    %(output_tokens)s::integer[], %(version)s::text[]
) as analysed (
    source, item_key, embedding, attributes, input, content_hash, thumbnail, vision_model, input_tokens, output_tokens, version
)
on conflict (source, item, model) do update set
    embedding = excluded.embedding, halves = excluded.halves, attributes = excluded.attributes, input = excluded.input,
    input_hash = excluded.input_hash, thumbnail = excluded.thumbnail, vision_model = excluded.vision_model,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, version = excluded.version, looked_at = now(),
    embedded_at = case when embeddings.input_hash = excluded.input_hash then embeddings.embedded_at else now() end

-- name: write_text_embeddings
-- `part_of` gives the number of the text, from 1, that each vector is a part of
with parts as (
    select part_of, array_agg(embedding order by place) as vectors
    from unnest(%(part_of)b::bigint[], %(embeddings)b::vector[]) with ordinality as part (part_of, embedding, place)
    group by part_of
)
insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, more, input_hash)
select source, matching_pipeline.key_id(item_key), %(model)s, vector_dims(vectors[1]), vectors[1], vectors[2:], input_hash
from unnest(%(sources)b::text[], %(item_keys)b::text[], %(input_hashes)b::bytea[]) with ordinality
    as embedded (source, item_key, input_hash, number)
join parts on part_of = number
on conflict (source, item, model) do update set
    embedding = excluded.embedding, more = excluded.more, halves = excluded.halves, input_hash = excluded.input_hash, embedded_at = now()

-- name: vector_dimensions
-- no row if there are no vectors
-- by id, so that Postgres finds one in the index, not behind all rows of other sources
select dimensions from matching_pipeline.entities where source = %(source)s and embedding is not null order by id limit 1

-- name: register_vector_model
-- the foreign key of vectors that another session has written meanwhile refuses other dimensions
insert into matching_pipeline.embedding_models (name, modality, dimensions, status)
values (%(source)s, 'vector', %(dimensions)s, 'active')
on conflict (name) do update set dimensions = excluded.dimensions where embedding_models.dimensions <> excluded.dimensions

-- name: forget_outdated_embeddings
delete from matching_pipeline.embeddings
using matching_pipeline.items
where embeddings.source = %(source)s and embeddings.item = matching_pipeline.key_id(%(item_key)s)
  and items.source = embeddings.source and items.id = embeddings.item
  and (embeddings.input is distinct from items.content or (items.content_hash is not null and items.content_hash <> embeddings.input_hash))

-- name: write_derived
select matching_pipeline.write_derived(%(queue)s, %(values)s)

-- name: forget_derived
select matching_pipeline.forget_derived(%(queue)s, %(source)s, %(item_key)s)

-- name: queue_coverage
select what, rows, covered, waiting, failed_for_good, unaccounted from matching_pipeline.queue_coverage(%(queue)s)

-- name: newest_image_embeddings
select embeddings.source, thumbnail, attributes
from matching_pipeline.embeddings
join matching_pipeline.sources on sources.name = embeddings.source and %(queue)s = any (sources.queues)
where model = matching_pipeline.queue_model(%(queue)s) and thumbnail is not null
order by embedded_at desc limit %(count)s

-- name: newest_text_embeddings
select embeddings.source, items.key, embeddings.model, embeddings.embedded_at
from matching_pipeline.embeddings
join matching_pipeline.items on items.source = embeddings.source and items.id = embeddings.item
join matching_pipeline.sources on sources.name = embeddings.source and %(queue)s = any (sources.queues)
where model = matching_pipeline.queue_model(%(queue)s)
order by embedded_at desc, items.key limit %(count)s
