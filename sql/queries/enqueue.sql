-- name: is_project
select exists (select from listings where id = %(id)s and type::text = 'project')

-- name: enqueue_project_images
select enqueue_project_images(%(id)s)

-- name: is_product
select exists (select from products where id = %(id)s)

-- name: enqueue_product_images
select enqueue_product_images(%(id)s)

-- name: is_studio_project
select exists (select from projects where id = %(id)s)

-- name: enqueue_complete_pack
select enqueue_complete_pack(%(id)s)

-- name: enqueue_missing
select enqueue_missing()

-- name: enqueue_missing_images
select enqueue_missing_images()

-- name: enqueue_missing_postings
select enqueue_missing_postings()
