-- name: asked_images
select job_id, image_type, prompt, source_url, source_hash, made
from asked_images
where job_id = any (%(job_ids)s::uuid[])
order by job_id, position

-- name: lock_picture
select pg_try_advisory_lock(picture_lock(%(project_id)s, %(image_type)s))

-- name: unlock_picture
select pg_advisory_unlock(picture_lock(%(project_id)s, %(image_type)s))

-- name: is_picture_made
select made from asked_images where job_id = %(job_id)s and image_type = %(image_type)s

-- name: save_generated_image
select save_generated_image(
    %(job_id)s, %(attempt)s, %(image_type)s, %(url)s, %(width)s, %(height)s, %(media_type)s, %(bytes)s, %(model)s,
    %(source_url)s, %(source_hash)s, %(cost_usd)s
)

-- name: keep_unchanged_images
update generated_images set source_url = %(source_url)s
where project_id = %(project_id)s and image_type = any (%(image_types)s::text[]) and source_hash = %(source_hash)s
  and exists (select from job_queue where id = %(job_id)s and attempts = %(attempt)s and status = 'processing')

-- name: generated_images_coverage
with asked as (
    select project_id, image_type, bool_or(job_status in ('pending', 'processing')) as waiting,
        bool_or(job_status = 'failed') as failed, false as there
    from asked_images
    group by project_id, image_type
    union all
    select project_id, image_type, false, false, true from generated_images
),
pictures as (
    select bool_or(there) as there, bool_or(waiting) as waiting, bool_or(failed) as failed
    from asked
    group by project_id, image_type
)
select 'product pictures' as what, count(*) as rows,
    count(*) filter (where there) as covered,
    count(*) filter (where not there and waiting) as waiting,
    count(*) filter (where not there and not waiting and failed) as failed_for_good,
    count(*) filter (where not there and not waiting and not failed) as unaccounted
from pictures

-- name: generation_costs
select image_type, count(*), round(avg(bytes) / 1024) as kilobytes, sum(cost_usd)
from generated_images
join image_types on image_types.name = image_type
group by image_type, position
order by position, image_type

-- name: newest_pack
select generated_images.image_type, generated_images.url, generated_images.project_id, generated_images.model
from generated_images
join image_types on image_types.name = generated_images.image_type
where generated_images.project_id = (select project_id from generated_images order by created_at desc, project_id limit 1)
order by image_types.position, image_types.name

-- name: some_generated_images
select url from generated_images order by random() limit %(count)s
