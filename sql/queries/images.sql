-- name: image_urls
select source, image_id, url from source_images
where image_id = any (%(image_ids)s::uuid[])

-- name: known_analyses
select distinct on (content_hash) content_hash, embedding, attributes, thumbnail
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
insert into image_ai (source, image_id, model, dimensions, embedding, attributes, image_url, content_hash, thumbnail)
select source, image_id, %(model)s, vector_dims(embedding), embedding, attributes, image_url, content_hash, thumbnail
from unnest(
    %(sources)s::text[], %(image_ids)s::uuid[], %(embeddings)s::vector[], %(attributes)s::jsonb[],
    %(image_urls)s::text[], %(content_hashes)s::bytea[], %(thumbnails)s::bytea[]
) as analysed (source, image_id, embedding, attributes, image_url, content_hash, thumbnail)
on conflict (source, image_id, model) do update set
    embedding = excluded.embedding, attributes = excluded.attributes, image_url = excluded.image_url,
    content_hash = excluded.content_hash, thumbnail = excluded.thumbnail, analyzed_at = now()

-- name: forget_outdated_image
delete from image_ai
where source = %(source)s and image_id = %(image_id)s
  and not exists (
      select from source_images
      where source_images.source = image_ai.source and source_images.image_id = image_ai.image_id
        and source_images.url = image_ai.image_url
  )

-- name: enqueue_project_images
select enqueue_project_images(%(id)s)

-- name: enqueue_product_images
select enqueue_product_images(%(id)s)

-- name: enqueue_missing_images
select enqueue_missing_images()

-- name: is_project
select exists (select from listings where id = %(id)s and type::text = 'project')

-- name: is_product
select exists (select from products where id = %(id)s)

-- name: forget_orphan_images
delete from image_ai
where not exists (
    select from source_images
    where source_images.source = image_ai.source and source_images.image_id = image_ai.image_id
)
