-- name: posting_texts
select job_id, text, input_hash from source_postings where job_id = any (%(job_ids)s::uuid[])

-- name: known_embeddings
select distinct on (input_hash) input_hash, embedding
from job_embeddings
where input_hash = any (%(input_hashes)s::bytea[]) and model = %(model)s
order by input_hash

-- name: lock_postings
select jobs.id
from jobs
join unnest(%(job_ids)s::uuid[], %(input_hashes)s::bytea[]) as embedded (job_id, input_hash) on embedded.job_id = jobs.id
where jobs.is_active
  and posting_hash(jobs.title::text, jobs.company::text, jobs.description::text) = embedded.input_hash
order by jobs.id
for key share of jobs

-- name: write_job_embeddings
insert into job_embeddings (job_id, model, dimensions, embedding, input_hash)
select job_id, %(model)s, vector_dims(embedding), embedding, input_hash
from unnest(%(job_ids)s::uuid[], %(embeddings)b::vector[], %(input_hashes)s::bytea[]) as embedded (job_id, embedding, input_hash)
on conflict (job_id, model) do update set
    embedding = excluded.embedding, input_hash = excluded.input_hash, embedded_at = now()

-- name: forget_outdated_embedding
delete from job_embeddings
where job_id = %(job_id)s
  and not exists (
      select from source_postings
      where source_postings.job_id = job_embeddings.job_id and source_postings.input_hash = job_embeddings.input_hash
  )
