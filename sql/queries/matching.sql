-- The readers-writer lock with a turnstile on the lists of a kind: matching_pipeline/matches/locks.py.

-- name: try_shut_turnstile
select pg_try_advisory_xact_lock(hashtext('matching_pipeline.matches_turnstile.' || %(kind)s))

-- name: pass_turnstile
select pg_advisory_lock_shared(hashtext('matching_pipeline.matches_turnstile.' || %(kind)s))

-- name: leave_turnstile
select pg_advisory_unlock_shared(hashtext('matching_pipeline.matches_turnstile.' || %(kind)s))

-- name: try_take_lists
select pg_try_advisory_xact_lock(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: take_lists
select pg_advisory_lock(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: release_lists
select pg_advisory_unlock(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: share_lists
select pg_advisory_lock_shared(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: try_share_lists
select pg_try_advisory_lock_shared(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: release_shared_lists
select pg_advisory_unlock_shared(hashtext('matching_pipeline.matches.' || %(kind)s))

-- name: begin_publishing
select set_config('matching_pipeline.publishing', 'on', true)

-- name: match_policy
select threshold, match_limit, attribute_weight from match_settings where kind = %(kind)s

-- name: active_image_model
select name from embedding_models where modality = 'image' and status = 'active'

-- name: copy_image_set
copy (
    select source_images.owner_id, source_images.image_id, image_ai.embedding, image_ai.attributes::text
    from source_images
    join image_ai on image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
    where source_images.source = %(source)s and image_ai.model = %(model)s
      and (%(entity_ids)s::uuid[] is null or source_images.owner_id = any (%(entity_ids)s::uuid[]))
      and (%(first)s::uuid is null or source_images.owner_id >= %(first)s::uuid)
      and (%(before)s::uuid is null or source_images.owner_id < %(before)s::uuid)
    order by source_images.owner_id, source_images.image_id
) to stdout (format binary)

-- name: copy_projects_near
copy (
    select source_images.owner_id, near.image_id, near.embedding, near.attributes::text
    from (
        select image_id, embedding, attributes, %(others)s + (1 - %(weight)s) * (
            select max(-(stored.direction <#> sought.direction))
            from unnest(%(directions)s::vector[]) as sought (direction)
        ) as most
        from (
            -- one normalised vector for each image: each use of a stored vector fetches it from its table again
            select image_id, embedding, attributes, l2_normalize(embedding) as direction
            from image_ai
            where source = 'project' and model = %(model)s
            offset 0
        ) as stored
        offset 0
    ) as near
    join source_images on source_images.source = 'project' and source_images.image_id = near.image_id
    where near.most >= %(threshold)s and near.most >= coalesce((
        select similarity from matches
        where kind = 'project' and project_id = source_images.owner_id and rank = %(limit)s
    ), -1)
    order by source_images.owner_id, near.image_id
) to stdout (format binary)

-- name: full_list_floors
select project_id, similarity
from matches
where kind = 'project' and rank = %(limit)s
  and (%(project_ids)s::uuid[] is null or project_id = any (%(project_ids)s::uuid[]))

-- name: projects_of_products
select distinct project_id from matches where kind = 'project' and product_id = any (%(product_ids)s::uuid[])

-- name: copy_project_rows
copy (
    select project_id, product_id, similarity, project_image_id, product_image_id, rank
    from matches
    where kind = 'project'
      and (%(project_ids)s::uuid[] is null or project_id = any (%(project_ids)s::uuid[]))
      and (%(first)s::uuid is null or project_id >= %(first)s::uuid)
      and (%(before)s::uuid is null or project_id < %(before)s::uuid)
    order by project_id, rank
) to stdout (format binary)

-- name: delete_project_pairs
delete from matches
using unnest(%(project)s::uuid[], %(product)s::uuid[]) as gone (project_id, product_id)
where matches.kind = 'project' and matches.project_id = gone.project_id and matches.product_id = gone.product_id

-- name: rows_without_evidence
with held as materialized (
    select pair.number
    from unnest(
        %(project)s::uuid[], %(product)s::uuid[], %(project_image)s::uuid[], %(product_image)s::uuid[]
    ) with ordinality as pair (project_id, product_id, project_image_id, product_image_id, number)
    join listings on listings.id = pair.project_id
    join products on products.id = pair.product_id
    join listing_images on listing_images.id = pair.project_image_id
    join product_images on product_images.id = pair.product_image_id
    order by pair.project_id, pair.product_id
    for key share of listings, products, listing_images, product_images
)
select generate_series(0, cardinality(%(project)s::uuid[]) - 1) except select number - 1 from held

-- name: publish_project_pairs
insert into matches (id, kind, project_id, product_id, project_image_id, product_image_id, similarity, rank, model)
select id, 'project', project_id, product_id, project_image_id, product_image_id, similarity, rank, %(model)s
from unnest(
    %(new_ids)s::uuid[], %(project)s::uuid[], %(product)s::uuid[], %(project_image)s::uuid[],
    %(product_image)s::uuid[], %(similarity)s::double precision[], %(rank)s::integer[]
) as pair (id, project_id, product_id, project_image_id, product_image_id, similarity, rank)
order by project_id, product_id
on conflict (project_id, product_id) where kind = 'project' do update set
    project_image_id = excluded.project_image_id, product_image_id = excluded.product_image_id,
    similarity = excluded.similarity, rank = excluded.rank, model = excluded.model, computed_at = now()

-- name: name_model_of_matches
update matches set model = %(model)s where kind = 'project' and model <> %(model)s

-- name: best_matches
select matches.project_id, matches.product_id, matches.similarity,
    project_image.thumbnail as project_thumbnail, product_image.thumbnail as product_thumbnail,
    project_image.image_url as project_url, product_image.image_url as product_url
from matches
join image_ai as project_image on project_image.source = 'project' and project_image.image_id = matches.project_image_id
    and project_image.model = matches.model
join image_ai as product_image on product_image.source = 'product' and product_image.image_id = matches.product_image_id
    and product_image.model = matches.model
where matches.kind = 'project' and matches.rank = 1
order by matches.similarity desc, matches.project_id
limit %(count)s
