-- The inputs of the definition of `matches`. They come from the app's tables, without the views and functions that the
-- pipeline itself reads.

-- name: sampled_projects
select id
from (
    select listing_images.listing_id as id
    from image_ai
    join listing_images on listing_images.id = image_ai.image_id
    where image_ai.source = 'project'
    union
    select project_id from matches where kind = 'project'
) as listed
order by hashtextextended(id::text, %(seed)s), id
limit %(count)s

-- name: sampled_faces
select id from faces where embedding is not null order by hashtextextended(id::text, %(seed)s), id limit %(count)s

-- name: defining_project_images
select listings.id, listing_images.id, image_ai.embedding, image_ai.attributes
from listings
join listing_images on listing_images.listing_id = listings.id
join image_ai on image_ai.source = 'project' and image_ai.image_id = listing_images.id
join embedding_models on embedding_models.name = image_ai.model
where listings.type::text = 'project' and listings.id = any (%(ids)s::uuid[])
  and embedding_models.modality = 'image' and embedding_models.status = 'active'

-- name: defining_product_images
select products.id, product_images.id, image_ai.embedding, image_ai.attributes
from products
join product_images on product_images.product_id = products.id
join image_ai on image_ai.source = 'product' and image_ai.image_id = product_images.id
join embedding_models on embedding_models.name = image_ai.model
where embedding_models.modality = 'image' and embedding_models.status = 'active'

-- name: defining_faces
select id, id, embedding, '{}'::jsonb from faces where id = any (%(ids)s::uuid[]) and embedding is not null

-- name: defining_candidates
select theirs.id, theirs.id, theirs.embedding, '{}'::jsonb
from faces as mine
join profiles as me on me.id = mine.user_id
join profiles as them on them.school::text = me.school::text and them.id <> me.id
join faces as theirs on theirs.user_id = them.id
where mine.id = %(id)s and theirs.embedding is not null
  and me.profile_type::text = 'user' and them.profile_type::text = 'user'
  and (me.gender::text, them.gender::text) in (('male', 'female'), ('female', 'male'))

-- name: stored_project_lists
select project_id, product_id, similarity, project_image_id, product_image_id, rank
from matches
where kind = 'project' and project_id = any (%(ids)s::uuid[])

-- name: stored_face_lists
select face_a_id, face_b_id, similarity, face_a_id, face_b_id, rank_for_a
from matches
where kind = 'face' and face_a_id = any (%(ids)s::uuid[]) and rank_for_a is not null
union all
select face_b_id, face_a_id, similarity, face_b_id, face_a_id, rank_for_b
from matches
where kind = 'face' and face_b_id = any (%(ids)s::uuid[]) and rank_for_b is not null

-- name: unfinished_jobs
select queue, count(*) from job_queue where status in ('pending', 'processing') group by queue order by queue
