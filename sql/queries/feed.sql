-- name: listen_to_matches
listen matches

-- name: announced_pairs
select matcher, left_key, right_key, similarity
from matching_pipeline.matches
where id = any (%(ids)s::uuid[])
order by similarity desc, id
