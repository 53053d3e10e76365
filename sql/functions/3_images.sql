-- Which images there are, and what happens when the app changes them. The trigger functions run with their
-- owner's rights: the app's role needs none on the queue.

create or replace view source_images with (security_invoker = true) as
    select 'project' as source, listing_images.id as image_id, listing_images.listing_id as owner_id,
        listing_images.image_url::text as url
    from listing_images
    join listings on listings.id = listing_images.listing_id
    where listings.type::text = 'project'
    union all
    select 'product', id, product_id, src::text from product_images;

-- Removes what was derived from images that are gone, and the work owed to them; their owners are matched anew.
create or replace function forget_images(image_source text, ids uuid[], owners uuid[]) returns void
language plpgsql as $$
begin
    delete from image_ai where source = image_source and image_id = any (ids);
    delete from job_queue where entity_id = any (ids) and queue = 'image_ai' and entity_kind = image_source;
    perform enqueue_jobs('matches', image_source, array(
        select id from listings where image_source = 'project' and id = any (owners)
        union all
        select id from products where image_source = 'product' and id = any (owners)
    ));
end
$$;

create or replace function enqueue_all_for_matching(image_source text) returns integer
language sql as $$
    select enqueue_jobs('matches', image_source, array(
        select id from listings where image_source = 'project' and type::text = 'project'
        union all
        select id from products where image_source = 'product'
    ))
$$;

create or replace function listing_images_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_jobs('image_ai', 'project', array(
            select new_rows.id from new_rows
            join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
        ));
    elsif tg_op = 'DELETE' then
        perform forget_images('project', array(select id from old_rows), array(select listing_id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        delete from image_ai where source = 'project';
        delete from job_queue where queue = 'image_ai' and entity_kind = 'project';
        perform enqueue_all_for_matching('project');
    else
        -- gone: its key changed, or it moved to a listing that is no project
        perform forget_images('project', array_agg(old_rows.id), array_agg(old_rows.listing_id))
        from old_rows
        left join new_rows on new_rows.id = old_rows.id
        left join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
        where new_rows.id is null or (listings.id is null and new_rows.listing_id <> old_rows.listing_id);

        perform enqueue_jobs('image_ai', 'project', array(
            select new_rows.id from new_rows
            join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
            left join old_rows on old_rows.id = new_rows.id
            where (old_rows.image_url, old_rows.listing_id) is distinct from (new_rows.image_url, new_rows.listing_id)
        ));
        perform enqueue_jobs('matches', 'project', array(
            select unnest(array[old_rows.listing_id, new_rows.listing_id]) from new_rows
            join old_rows on old_rows.id = new_rows.id
            where old_rows.listing_id <> new_rows.listing_id
        ));
    end if;
    return null;
end
$$;

create or replace function product_images_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_jobs('image_ai', 'product', array(select id from new_rows));
    elsif tg_op = 'DELETE' then
        perform forget_images('product', array(select id from old_rows), array(select product_id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        delete from image_ai where source = 'product';
        delete from job_queue where queue = 'image_ai' and entity_kind = 'product';
        perform enqueue_all_for_matching('project');
    else
        perform forget_images('product', array_agg(old_rows.id), array_agg(old_rows.product_id))
        from old_rows
        where not exists (select from new_rows where new_rows.id = old_rows.id);

        perform enqueue_jobs('image_ai', 'product', array(
            select new_rows.id from new_rows
            left join old_rows on old_rows.id = new_rows.id
            where old_rows.id is null or old_rows.src is distinct from new_rows.src
        ));
        perform enqueue_jobs('matches', 'product', array(
            select unnest(array[old_rows.product_id, new_rows.product_id]) from new_rows
            join old_rows on old_rows.id = new_rows.id
            where old_rows.product_id <> new_rows.product_id
        ));
    end if;
    return null;
end
$$;

create or replace function listings_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op in ('DELETE', 'TRUNCATE') then
        if tg_op = 'TRUNCATE' then
            delete from job_queue where queue = 'matches' and entity_kind = 'project';
        else
            perform forget_images('project', array_agg(listing_images.id), null)
            from listing_images join old_rows on old_rows.id = listing_images.listing_id;
            delete from job_queue using old_rows
            where entity_id = old_rows.id and queue = 'matches' and entity_kind = 'project';
        end if;
        return null;
    end if;
    if tg_op = 'INSERT' then
        -- an image may have come before its listing, where the app's foreign key is deferred or absent
        perform enqueue_jobs('image_ai', 'project', array(
            select listing_images.id from listing_images
            join new_rows on new_rows.id = listing_images.listing_id and new_rows.type::text = 'project'
        ));
        return null;
    end if;
    perform enqueue_jobs('image_ai', 'project', array(
        select listing_images.id from listing_images
        join new_rows on new_rows.id = listing_images.listing_id and new_rows.type::text = 'project'
        left join old_rows on old_rows.id = new_rows.id
        where old_rows.type::text is distinct from 'project'
    ));
    perform forget_images('project', array_agg(listing_images.id), array_agg(listing_images.listing_id))
    from listing_images
    join new_rows on new_rows.id = listing_images.listing_id and new_rows.type::text is distinct from 'project'
    join old_rows on old_rows.id = new_rows.id and old_rows.type::text = 'project';
    -- a key that is no more
    delete from job_queue using old_rows
    where entity_id = old_rows.id and queue = 'matches' and entity_kind = 'project'
      and not exists (select from new_rows where new_rows.id = old_rows.id);
    perform enqueue_jobs('matches', 'project', array(
        select new_rows.id from new_rows left join old_rows on old_rows.id = new_rows.id where old_rows.id is null
    ));
    return null;
end
$$;

create or replace function products_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from job_queue where queue = 'matches' and entity_kind = 'product';
    elsif tg_op = 'DELETE' then
        perform forget_images('product', array_agg(product_images.id), null)
        from product_images join old_rows on old_rows.id = product_images.product_id;
        delete from job_queue using old_rows
        where entity_id = old_rows.id and queue = 'matches' and entity_kind = 'product';
    else
        delete from job_queue using old_rows
        where entity_id = old_rows.id and queue = 'matches' and entity_kind = 'product'
          and not exists (select from new_rows where new_rows.id = old_rows.id);
        perform enqueue_jobs('matches', 'product', array(
            select new_rows.id from new_rows left join old_rows on old_rows.id = new_rows.id where old_rows.id is null
        ));
    end if;
    return null;
end
$$;

do $$
declare
    watched record;
begin
    for watched in
        select tables.name, events.event, events.rows
        from (values ('listings'), ('listing_images'), ('products'), ('product_images')) as tables (name),
            (values ('insert', 'new table as new_rows'), ('update', 'old table as old_rows new table as new_rows'),
                ('delete', 'old table as old_rows'), ('truncate', null)) as events (event, rows)
        -- a product without images owes nothing yet
        where (tables.name, events.event) <> ('products', 'insert')
    loop
        execute format('create or replace trigger %I after %s on %I %s for each statement execute function %I()',
            'matching_pipeline_' || watched.event, watched.event, watched.name,
            'referencing ' || watched.rows, watched.name || '_changed');
    end loop;
end
$$;

-- The field's processProjectImages and processProductImages, as functions.
create or replace function enqueue_project_images(project uuid) returns integer
language sql as $$
    select enqueue_jobs('image_ai', 'project', array(
        select image_id from source_images where source = 'project' and owner_id = project
    ))
$$;

create or replace function enqueue_product_images(product uuid) returns integer
language sql as $$
    select enqueue_jobs('image_ai', 'product', array(
        select image_id from source_images where source = 'product' and owner_id = product
    ))
$$;

-- Everything that has no up-to-date result, is not waiting and has not failed for a stated reason.
create or replace function enqueue_missing() returns integer
language sql as $$
    select coalesce(sum(enqueue_jobs('image_ai', source, ids)), 0)::integer
    from (
        select source, array_agg(image_id) as ids
        from source_images
        where not exists (
            select from image_ai
            join embedding_models on embedding_models.name = image_ai.model and embedding_models.status = 'active'
            where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
              and image_ai.image_url = source_images.url
        ) and not exists (
            select from job_queue
            where job_queue.entity_id = source_images.image_id and job_queue.entity_kind = source_images.source
              and job_queue.queue = 'image_ai' and job_queue.status <> 'completed'
        )
        group by source
    ) as missing
$$;
