-- name: face_states
select faces.id, faces.user_id, faces.embedding is not null, profiles.id is not null,
    faces.embedding is not null and vector_norm(faces.embedding) > 0
from faces
left join profiles on profiles.id = faces.user_id
where faces.id = any (%(face_ids)s::uuid[])

-- name: blocks_of_faces
select school, gender, id from matchable_faces where id = any (%(face_ids)s::uuid[])

-- name: all_blocks
select distinct school, gender from matchable_faces order by school, gender

-- name: copy_faces
copy (
    select id, embedding
    from matchable_faces
    where school = %(school)s and gender = %(gender)s
      and (%(face_ids)s::uuid[] is null or id = any (%(face_ids)s::uuid[]))
    order by id
) to stdout (format binary)

-- name: face_pairs
select face_a_id, face_b_id, similarity, rank_for_a, rank_for_b
from matches
where face_a_id = any (%(face_ids)s::uuid[])
union
select face_a_id, face_b_id, similarity, rank_for_a, rank_for_b
from matches
where face_b_id = any (%(face_ids)s::uuid[])

-- name: unmatchable_faces_with_pairs
select face_id
from (
    select face_a_id as face_id from matches where kind = 'face'
    union
    select face_b_id from matches where kind = 'face'
) as paired
where not exists (select from matchable_faces where matchable_faces.id = paired.face_id)

-- name: hold_faces
select id from faces where id = any (%(face_ids)s::uuid[]) order by id for key share

-- name: delete_face_pairs
delete from matches
using unnest(%(a_ids)s::uuid[], %(b_ids)s::uuid[]) as gone (a_id, b_id)
where matches.face_a_id = gone.a_id and matches.face_b_id = gone.b_id

-- name: publish_face_pairs
insert into matches (kind, face_a_id, face_b_id, similarity, rank_for_a, rank_for_b, model)
select 'face', a_id, b_id, similarity, rank_for_a, rank_for_b, 'faces'
from unnest(
    %(a_ids)s::uuid[], %(b_ids)s::uuid[], %(similarities)s::double precision[],
    %(ranks_for_a)s::integer[], %(ranks_for_b)s::integer[]
) as pair (a_id, b_id, similarity, rank_for_a, rank_for_b)
order by a_id, b_id
on conflict (face_a_id, face_b_id) where face_a_id is not null do update set
    similarity = excluded.similarity, rank_for_a = excluded.rank_for_a, rank_for_b = excluded.rank_for_b, computed_at = now()

-- name: forget_face_matches
select forget_face_matches(array[%(face_id)s::uuid])
