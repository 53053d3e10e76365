-- name: asked_pictures
select job_id, image_type, prompt, source_url, source_hash, made
from matching_pipeline.asked_pictures(%(job_ids)s::uuid[])
order by job_id, position

-- name: lock_picture
select pg_try_advisory_lock(matching_pipeline.picture_lock(%(source)s, %(key)s, %(image_type)s))

-- name: unlock_picture
select pg_advisory_unlock(matching_pipeline.picture_lock(%(source)s, %(key)s, %(image_type)s))

-- name: is_picture_made
select made from matching_pipeline.asked_pictures(array[%(job_id)s::uuid]) where image_type = %(image_type)s

-- name: save_generated_image
select matching_pipeline.save_generated_image(
    %(job_id)s, %(attempt)s, %(image_type)s, %(url)s, %(width)s, %(height)s, %(media_type)s, %(bytes)s, %(model)s,
    %(source_url)s, %(source_hash)s, %(cost_usd)s
)

-- name: keep_unchanged_images
update matching_pipeline.generated_images set source_url = %(source_url)s
where source = %(source)s and key = %(key)s and image_type = any (%(image_types)s::text[]) and source_hash = %(source_hash)s
  and exists (
      select from matching_pipeline.jobs where id = %(job_id)s and attempts = %(attempt)s and status || '' = 'processing'
  )

-- name: request_packs
-- one row for each key; the answer is null if there is no such entity
select key, case when exists (
    select from matching_pipeline.read_source(%(source)s, 'entity', array[asked.key]) where applies
) then matching_pipeline.request_pictures(%(queue)s, %(source)s, 'complete_pack', key, '{}') end
from unnest(%(keys)s::text[]) as asked (key)

-- name: erase_entities_without_row
select matching_pipeline.erase_entities_without_row()

-- name: generation_costs
select image_type, count(*), round(avg(bytes) / 1024) as kilobytes, sum(cost_usd)
from matching_pipeline.generated_images
join matching_pipeline.image_types on image_types.name = image_type
group by image_type, position
order by position, image_type

-- name: newest_pack
select generated_images.image_type, generated_images.url, generated_images.key, generated_images.model
from matching_pipeline.generated_images
join matching_pipeline.image_types on image_types.name = generated_images.image_type
where (generated_images.source, generated_images.key) = (
    select source, key from matching_pipeline.generated_images order by created_at desc, key limit 1
)
order by image_types.position, image_types.name

-- name: some_generated_images
select url from matching_pipeline.generated_images order by random() limit %(count)s

-- name: pictures_without_row
-- Compares the files' names only: the rows keep their URLs when a store is moved or gets another URL.
select url from unnest(%(urls)s::text[]) as url
where not exists (
    select from matching_pipeline.generated_images where split_part(generated_images.url, '/', -1) = split_part(url.url, '/', -1)
)
