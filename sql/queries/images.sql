-- name: image_urls
select source, image_id, url from source_images
where image_id = any (%(image_ids)s::uuid[])

-- name: known_analyses
select distinct on (content_hash) content_hash, embedding, attributes, thumbnail, vision_model, input_tokens, output_tokens
from image_ai
where content_hash = any (%(content_hashes)s::bytea[]) and model = %(model)s
order by content_hash

-- name: lock_project_images
select listing_images.id, listing_images.image_url::text
from listing_images
join listings on listings.id = listing_images.listing_id and listings.type::text = 'project'
where listing_images.id = any (%(image_ids)s::uuid[])
order by listing_images.id
for key share of listing_images

-- name: lock_product_images
select id, src::text from product_images where id = any (%(image_ids)s::uuid[]) order by id for key share

-- name: write_image_ai
insert into image_ai (
    source, image_id, model, dimensions, embedding, attributes, image_url, content_hash, thumbnail, vision_model,
    input_tokens, output_tokens
)
select source, image_id, %(model)s, vector_dims(embedding), embedding, attributes, image_url, content_hash, thumbnail,
    vision_model, input_tokens, output_tokens
from unnest(
    %(source)s::text[], %(image_id)s::uuid[], %(embedding)s::vector[], %(attributes)s::jsonb[], %(image_url)s::text[],
    %(content_hash)s::bytea[], %(thumbnail)s::bytea[], %(vision_model)s::text[], %(input_tokens)s::integer[],
    %(output_tokens)s::integer[]
) as analysed (
    source, image_id, embedding, attributes, image_url, content_hash, thumbnail, vision_model, input_tokens, output_tokens
)
on conflict (source, image_id, model) do update set
    embedding = excluded.embedding, attributes = excluded.attributes, image_url = excluded.image_url,
    content_hash = excluded.content_hash, thumbnail = excluded.thumbnail,
    vision_model = excluded.vision_model, input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    analyzed_at = now()

-- name: forget_outdated_image
delete from image_ai
where source = %(source)s and image_id = %(image_id)s
  and not exists (
      select from source_images
      where source_images.source = image_ai.source and source_images.image_id = image_ai.image_id
        and source_images.url = image_ai.image_url
  )
