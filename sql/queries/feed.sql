-- name: listen_to_matches
listen matches

-- name: announced_pairs
select kind, coalesce(project_id, face_a_id) as one_id, coalesce(product_id, face_b_id) as other_id, similarity
from matches
where id = any (%(ids)s::uuid[])
order by similarity desc, id
