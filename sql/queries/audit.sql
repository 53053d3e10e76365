-- The faults of the derived tables: each query gives the number of rows, and the first few of them.

-- name: mixed_model_matches
select count(*) over (), coalesce(matches.project_id, matches.face_a_id), coalesce(matches.product_id, matches.face_b_id),
    matches.model
from matches
join embedding_models on embedding_models.name = matches.model
where matches.kind = %(kind)s and (
    embedding_models.status <> 'active'
    or embedding_models.modality <> case matches.kind when 'project' then 'image' else 'face' end
)
order by 2, 3
limit %(count)s

-- name: name_model_of_face_matches
update matches set model = 'faces' where kind = 'face' and model <> 'faces'

-- name: schools
select distinct school from matchable_faces order by school

-- name: missing_image_ai
select count(*) over (), source_images.source, source_images.image_id, each.queue_name
from model_queues('image_ai') as each
cross join source_images
where not exists (
    select from image_ai
    where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
      and image_ai.model = each.model
) and not exists (
    select from job_queue
    where job_queue.entity_id = source_images.image_id and job_queue.entity_kind = source_images.source
      and job_queue.queue = each.queue_name and job_queue.status <> 'completed'
)
order by each.queue_name, source_images.source, source_images.image_id
limit %(count)s

-- name: stale_image_ai
select count(*) over (), source_images.source, source_images.image_id, each.queue_name
from model_queues('image_ai') as each
cross join source_images
join image_ai on image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
    and image_ai.model = each.model and image_ai.image_url is distinct from source_images.url
where not exists (
    select from job_queue
    where job_queue.entity_id = source_images.image_id and job_queue.entity_kind = source_images.source
      and job_queue.queue = each.queue_name and job_queue.status <> 'completed'
)
order by each.queue_name, source_images.source, source_images.image_id
limit %(count)s

-- name: orphaned_image_ai
select count(*) over (), source, image_id, model
from image_ai
where not exists (
    select from source_images
    where source_images.source = image_ai.source and source_images.image_id = image_ai.image_id
)
order by source, image_id, model
limit %(count)s

-- name: mixed_model_image_ai
select count(*) over (), image_ai.source, image_ai.image_id, image_ai.model
from image_ai
join embedding_models on embedding_models.name = image_ai.model
where embedding_models.status = 'retired' or embedding_models.modality <> 'image'
order by image_ai.source, image_ai.image_id, image_ai.model
limit %(count)s

-- name: missing_job_embeddings
select count(*) over (), 'posting', source_postings.job_id, each.queue_name
from model_queues('job_embeddings') as each
cross join source_postings
where not exists (
    select from job_embeddings
    where job_embeddings.job_id = source_postings.job_id and job_embeddings.model = each.model
) and not exists (
    select from job_queue
    where job_queue.entity_id = source_postings.job_id and job_queue.entity_kind = 'posting'
      and job_queue.queue = each.queue_name and job_queue.status <> 'completed'
)
order by each.queue_name, source_postings.job_id
limit %(count)s

-- name: stale_job_embeddings
select count(*) over (), 'posting', source_postings.job_id, each.queue_name
from model_queues('job_embeddings') as each
cross join source_postings
join job_embeddings on job_embeddings.job_id = source_postings.job_id and job_embeddings.model = each.model
    and job_embeddings.input_hash <> source_postings.input_hash
where not exists (
    select from job_queue
    where job_queue.entity_id = source_postings.job_id and job_queue.entity_kind = 'posting'
      and job_queue.queue = each.queue_name and job_queue.status <> 'completed'
)
order by each.queue_name, source_postings.job_id
limit %(count)s

-- name: orphaned_job_embeddings
select count(*) over (), 'posting', job_id, model
from job_embeddings
where not exists (select from jobs where jobs.id = job_embeddings.job_id and jobs.is_active)
order by job_id, model
limit %(count)s

-- name: mixed_model_job_embeddings
select count(*) over (), 'posting', job_embeddings.job_id, job_embeddings.model
from job_embeddings
join embedding_models on embedding_models.name = job_embeddings.model
where embedding_models.status = 'retired' or embedding_models.modality <> 'text'
order by job_embeddings.job_id, job_embeddings.model
limit %(count)s

-- name: forget_image_ai_of_no_role
delete from image_ai using embedding_models
where embedding_models.name = image_ai.model
  and (embedding_models.status = 'retired' or embedding_models.modality <> 'image')

-- name: forget_job_embeddings_of_no_role
delete from job_embeddings using embedding_models
where embedding_models.name = job_embeddings.model
  and (embedding_models.status = 'retired' or embedding_models.modality <> 'text')
