-- Each of the first three returns one row for each id. The answer is null where there is no such project or product.

-- name: enqueue_project_images
select id, case when exists (select from listings where listings.id = asked.id and type::text = 'project')
    then enqueue_project_images(id) end
from unnest(%(ids)s::uuid[]) as asked (id)

-- name: enqueue_product_images
select id, case when exists (select from products where products.id = asked.id) then enqueue_product_images(id) end
from unnest(%(ids)s::uuid[]) as asked (id)

-- name: enqueue_complete_packs
select id, case when exists (select from projects where projects.id = asked.id) then enqueue_complete_pack(id) end
from unnest(%(ids)s::uuid[]) as asked (id)

-- name: enqueue_missing
select enqueue_missing()

-- name: enqueue_missing_images
select enqueue_missing_images()

-- name: enqueue_missing_postings
select enqueue_missing_postings()
