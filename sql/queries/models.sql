-- name: queue_model
select queue_model(%(queue)s)

-- name: register_first_model
insert into embedding_models (name, modality, dimensions, status)
values (%(name)s, %(modality)s, %(dimensions)s, 'active')
on conflict do nothing

-- name: registered_model
select modality, dimensions, status from embedding_models where name = %(name)s

-- name: registered_models
select name, modality, dimensions, status from embedding_models
where modality in ('image', 'text')
order by modality, array_position(array['active', 'shadow', 'retired'], status), name

-- name: model_coverage
select * from image_coverage(%(queue)s) where %(modality)s = 'image'
union all
select * from posting_coverage(%(queue)s) where %(modality)s = 'text'

-- name: hold_role
select status from embedding_models where name = %(name)s for share skip locked

-- name: hold_models
select name, status from embedding_models where modality = %(modality)s order by name for no key update

-- name: add_shadow
insert into embedding_models (name, modality, dimensions, status)
values (%(name)s, %(modality)s, %(dimensions)s, 'shadow')
on conflict (name) do update set status = 'shadow'

-- name: set_status
update embedding_models set status = %(status)s where name = %(name)s

-- name: enqueue_missing_rows
select case %(modality)s when 'image' then enqueue_missing_images() else enqueue_missing_postings() end

-- name: exchange_queues
update job_queue set queue = case queue when %(queue)s then %(shadow_queue)s else %(queue)s end
where queue in (%(queue)s, %(shadow_queue)s) and status <> 'completed'

-- name: rows_lacking_shadow
select case %(modality)s when 'image' then (
    select count(*) from source_images
    where exists (
        select from image_ai
        where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
          and image_ai.model = (select queue_model('image_ai')) and image_ai.image_url = source_images.url
    ) and not exists (
        select from image_ai
        where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
          and image_ai.model = (select queue_model('image_ai_shadow')) and image_ai.image_url = source_images.url
    )
) else (
    select count(*) from source_postings
    join embedded_postings using (job_id)
    where not exists (
        select from job_embeddings
        where job_embeddings.job_id = source_postings.job_id and job_embeddings.input_hash = source_postings.input_hash
          and job_embeddings.model = (select queue_model('job_embeddings_shadow'))
    )
) end

-- name: forget_rows_of_model
with images as (delete from image_ai where model = %(name)s returning 1),
    postings as (delete from job_embeddings where model = %(name)s returning 1)
select (select count(*) from images) + (select count(*) from postings)

-- name: forget_queue
delete from job_queue
where id = any (array (select id from job_queue where queue = %(queue)s for update skip locked))

-- name: forget_jobs_of_no_model
delete from job_queue
where id = any (array (
    select id from job_queue
    where queue = any (array (
        select queue from (values ('image_ai_shadow'), ('job_embeddings_shadow')) as shadow (queue)
        where queue_model(shadow.queue) is null
    ))
    for update skip locked
))
