-- name: delete_orphan_images
delete from image_ai
where not exists (
    select from source_images
    where source_images.source = image_ai.source and source_images.image_id = image_ai.image_id
)

-- name: delete_orphan_embeddings
delete from job_embeddings
where not exists (select from jobs where jobs.id = job_embeddings.job_id and jobs.is_active)

-- name: pictures_without_row
-- Compares the files' names only: the rows keep their URLs when a store is moved or gets another URL.
select url from unnest(%(urls)s::text[]) as url
where not exists (select from generated_images where split_part(generated_images.url, '/', -1) = split_part(url.url, '/', -1))
