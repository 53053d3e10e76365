-- name: insert_sample_project
insert into public.listings (id, type) values (%(id)s, 'project') on conflict (id) do nothing

-- name: insert_sample_project_image
insert into public.listing_images (id, listing_id, image_url) values (%(id)s, %(listing_id)s, %(url)s) on conflict (id) do nothing

-- name: insert_sample_product
insert into public.products (id) values (%(id)s) on conflict (id) do nothing

-- name: insert_sample_product_image
insert into public.product_images (id, product_id, src) values (%(id)s, %(listing_id)s, %(url)s) on conflict (id) do nothing

-- name: insert_sample_user
insert into public.profiles (id, school, gender, profile_type) values (%(id)s, %(school)s, %(gender)s, 'user') on conflict (id) do nothing

-- name: insert_sample_face
insert into public.faces (id, user_id, embedding) values (%(id)s, %(user_id)s, %(embedding)s::double precision[]::vector)
on conflict (id) do nothing

-- name: insert_sample_posting
insert into public.jobs (id, title, company, description, is_active)
values (%(id)s, %(title)s, %(company)s, %(description)s, true)
on conflict (id) do nothing

-- name: insert_sample_studio_project
with added as (
    insert into public.projects (id, source_image_url) values (%(id)s, %(url)s) on conflict (id) do nothing returning id
)
select matching_pipeline.request_pictures('generated_images', 'studio_project', 'complete_pack', id::text, '{}') from added
