-- name: face_states
select faces.id, profiles.id is not null, vector_norm(faces.embedding)
from faces
left join profiles on profiles.id = faces.user_id
where faces.id = any (%(face_ids)s::uuid[])

-- name: blocks_of_faces
select school, gender, id from matchable_faces where id = any (%(face_ids)s::uuid[])

-- name: copy_block
copy (select id, embedding from faces_of_block(%(school)s, %(gender)s) order by id) to stdout (format binary)

-- name: copy_faces
copy (
    select id, embedding
    from matchable_faces
    where school = %(school)s and gender = %(gender)s and id = any (%(face_ids)s::uuid[])
    order by id
) to stdout (format binary)

-- name: copy_faces_near
copy (
    select id, embedding
    from (
        -- one normalised vector for each face: each use of a stored vector fetches it from its table again
        select id, embedding, l2_normalize(embedding) as direction
        from faces_of_block(%(school)s, %(gender)s)
        offset 0
    ) as block
    where exists (
        select from unnest(%(directions)s::vector[]) as sought (direction)
        where -(block.direction <#> sought.direction) >= %(least)s
    )
    order by id
) to stdout (format binary)

-- name: copy_face_rows
copy (
    select face_a_id, face_b_id, similarity, coalesce(rank_for_a, 0), coalesce(rank_for_b, 0)
    from matches
    where face_a_id = any (%(face_ids)s::uuid[])
    union
    select face_a_id, face_b_id, similarity, coalesce(rank_for_a, 0), coalesce(rank_for_b, 0)
    from matches
    where face_b_id = any (%(face_ids)s::uuid[])
) to stdout (format binary)

-- name: unmatchable_faces_with_pairs
select face_id
from (
    select face_a_id as face_id from matches where kind = 'face'
    union
    select face_b_id from matches where kind = 'face'
) as paired
where not exists (select from matchable_faces where matchable_faces.id = paired.face_id)

-- name: hold_faces
with held as materialized (select id from faces where id = any (%(face_ids)s::uuid[]) order by id for key share)
select unnest(%(face_ids)s::uuid[]) except select id from held

-- name: match_faces_again
select enqueue_jobs('faces', 'face', array(select id from matchable_faces where id = any (%(face_ids)s::uuid[])))

-- name: delete_face_pairs
delete from matches
using unnest(%(a)s::uuid[], %(b)s::uuid[]) as gone (a_id, b_id)
where matches.face_a_id = gone.a_id and matches.face_b_id = gone.b_id

-- name: publish_face_pairs
insert into matches (id, kind, face_a_id, face_b_id, similarity, rank_for_a, rank_for_b, model)
select id, 'face', a_id, b_id, similarity, nullif(rank_for_a, 0), nullif(rank_for_b, 0), %(model)s
from unnest(
    %(new_ids)s::uuid[], %(a)s::uuid[], %(b)s::uuid[], %(similarity)s::double precision[],
    %(rank_for_a)s::integer[], %(rank_for_b)s::integer[]
) as pair (id, a_id, b_id, similarity, rank_for_a, rank_for_b)
order by a_id, b_id
on conflict (face_a_id, face_b_id) where face_a_id is not null do update set
    similarity = excluded.similarity, rank_for_a = excluded.rank_for_a, rank_for_b = excluded.rank_for_b, computed_at = now()

-- name: forget_jobs_of_deleted_faces
delete from job_queue
where queue = 'faces' and (%(face_ids)s::uuid[] is null or entity_id = any (%(face_ids)s::uuid[]))
  and not exists (select from faces where faces.id = job_queue.entity_id)

-- name: crowded_schools
select school
from job_queue
join matchable_faces on matchable_faces.id = job_queue.entity_id
where queue = 'faces' and status = 'pending' and run_at <= now()
group by school
having count(*) >= %(least)s
order by school

-- name: claim_crowd
update job_queue
set status = 'processing', attempts = attempts + 1, started_at = now(), run_at = now() + %(lease)s
where id = any (array (
    select job_queue.id
    from job_queue
    join matchable_faces on matchable_faces.id = job_queue.entity_id
    where queue = 'faces' and status = 'pending' and run_at <= now() and school = %(school)s
    for update of job_queue skip locked
))
returning id, entity_kind, entity_id, payload, attempts as attempt
