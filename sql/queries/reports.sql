-- name: image_ai_coverage
select * from image_coverage('image_ai')

-- name: image_ai_shadow_coverage
select * from image_coverage('image_ai_shadow')

-- name: job_embeddings_coverage
select * from posting_coverage('job_embeddings')

-- name: job_embeddings_shadow_coverage
select * from posting_coverage('job_embeddings_shadow')

-- name: newest_job_embeddings
select jobs.title, jobs.company, job_embeddings.model, job_embeddings.embedded_at
from job_embeddings
join jobs on jobs.id = job_embeddings.job_id
order by job_embeddings.embedded_at desc, job_embeddings.job_id
limit %(count)s

-- name: newest_image_ai
select source, thumbnail, attributes from image_ai where model = queue_model('image_ai') order by analyzed_at desc limit %(count)s

-- name: match_histogram
select count(matches.similarity)
from generate_series(1, 20) as bucket (number)
left join matches on matches.kind = %(kind)s and width_bucket(least(matches.similarity, 0.999999), 0, 1, 20) = bucket.number
group by bucket.number
order by bucket.number

-- name: pairs_that_do_not_hold
select count(*) filter (where matches.similarity < match_settings.threshold),
    count(*) filter (where embedding_models.status <> 'active')
from matches
join match_settings on match_settings.kind = matches.kind
join embedding_models on embedding_models.name = matches.model

-- name: matches_coverage
select 'projects have matches' as what, count(*) as rows,
    count(*) filter (where exists (select from matches where matches.project_id = listings.id)) as covered
from listings
where type::text = 'project'

-- name: faces_coverage
select 'faces have matches' as what, count(*) as rows,
    count(*) filter (
        where exists (select from matches where matches.face_a_id = matchable_faces.id)
           or exists (select from matches where matches.face_b_id = matchable_faces.id)
    ) as covered
from matchable_faces

-- name: school_figures
with paired as (
    select face_a_id as face_id, true as counts, similarity from matches where kind = 'face'
    union all
    select face_b_id, false, similarity from matches where kind = 'face'
)
select school,
    count(distinct id) filter (where gender = 'female'), count(distinct id) filter (where gender = 'male'),
    count(distinct face_id), count(*) filter (where counts), coalesce(round(avg(similarity) filter (where counts)::numeric, 3)::text, '')
from matchable_faces
left join paired on paired.face_id = matchable_faces.id
group by school
order by count(*) filter (where counts) desc, school
limit %(count)s

-- name: newest_failures
select format('%%s %%s', case when queue in ('image_ai', 'image_ai_shadow') then entity_kind || ' image' else entity_kind end, entity_id) as what,
    case status when 'failed' then 'failed' else 'will be tried again' end as status,
    error_message as because, id as item
from job_queue
where queue = %(queue)s and error_message is not null
  and (status = 'failed' or status in ('pending', 'processing'))
order by coalesce(completed_at, started_at) desc nulls last
limit %(count)s
