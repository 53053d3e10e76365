-- Which images there are, and what happens when the app changes them. The trigger functions run with their
-- owner's rights: the app's role needs none on the queue.

-- Has the function <table>_changed() run after every statement that changes the table.
create or replace function watch_changes(table_name text) returns void
language plpgsql as $$
declare
    event text;
    rows text;
begin
    for event, rows in values
        ('insert', 'referencing new table as new_rows'), ('update', 'referencing old table as old_rows new table as new_rows'),
        ('delete', 'referencing old table as old_rows'), ('truncate', '')
    loop
        execute format('create or replace trigger %I after %s on %I %s for each statement execute function %I()',
            'matching_pipeline_' || event, event, table_name, rows, table_name || '_changed');
    end loop;
end
$$;

-- Whose images are analysed and matched.
create or replace view image_owners with (security_invoker = true) as
    select 'project' as source, id from listings where type::text = 'project'
    union all
    select 'product', id from products;

create or replace view source_images with (security_invoker = true) as
    select 'project' as source, listing_images.id as image_id, listing_images.listing_id as owner_id,
        listing_images.image_url::text as url
    from listing_images
    join listings on listings.id = listing_images.listing_id
    where listings.type::text = 'project'
    union all
    -- a product may be missing where the app has no foreign key
    select 'product', product_images.id, product_images.product_id, product_images.src::text
    from product_images
    join products on products.id = product_images.product_id;

create or replace function enqueue_owners(image_source text, owners uuid[]) returns integer
language sql as $$
    select enqueue_jobs('matches', image_source, array(
        select id from image_owners where source = image_source and id = any (owners)
    ))
$$;


-- Deletes the jobs of these entities. A locked job is left to its worker, which finds that the entity is gone: the app
-- does not wait.
create or replace function forget_jobs(queue_name text, kind text, ids uuid[]) returns void
language sql as $$
    delete from job_queue
    where id = any (array (
        select id from job_queue
        where entity_id = any (ids) and queue = queue_name and entity_kind = kind
        for update skip locked
    ))
$$;

-- The same for all of a kind.
create or replace function forget_all_jobs(queue_name text, kind text) returns void
language sql as $$
    delete from job_queue
    where id = any (array (
        select id from job_queue where queue = queue_name and entity_kind = kind for update skip locked
    ))
$$;

-- Deletes the results of images that are gone, and their jobs; their owners are matched again. The jobs come first: a
-- worker that is writing a result has locked the job's row, and only after that transaction can the result be seen.
create or replace function forget_images(image_source text, ids uuid[], owners uuid[] default null) returns void
language plpgsql as $$
begin
    if coalesce(cardinality(ids), 0) > 0 then
        delete from job_queue
        where entity_id = any (ids) and queue in ('image_ai', 'image_ai_shadow') and entity_kind = image_source;
        delete from image_ai where source = image_source and image_id = any (ids);
        perform enqueue_owners(image_source, owners);
    end if;
end
$$;

create or replace function forget_all_images(image_source text) returns void
language plpgsql as $$
begin
    perform forget_all_jobs('image_ai', image_source), forget_all_jobs('image_ai_shadow', image_source);
    delete from image_ai where source = image_source;
end
$$;

-- For owners that are gone or no longer projects. Where the app has no foreign key their images still exist.
create or replace function forget_owners(image_source text, owners uuid[]) returns void
language plpgsql as $$
begin
    perform forget_images(image_source, array(
        select id from listing_images where image_source = 'project' and listing_id = any (owners)
        union all
        select id from product_images where image_source = 'product' and product_id = any (owners)
    ));
    perform forget_jobs('matches', image_source, owners);
    delete from matches where image_source = 'project' and project_id = any (owners);
end
$$;

-- For owners that are new or have become projects; their images may have come before them.
create or replace function enqueue_images_of(image_source text, owners uuid[]) returns integer
language sql as $$
    select enqueue_for_models('image_ai', image_source, array(
        select image_id from source_images
        where source = image_source and owner_id = any (owners) and not exists (
            select from image_ai
            where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
        )
    ))
$$;

create or replace function listing_images_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_for_models('image_ai', 'project', array(
            select new_rows.id from new_rows
            join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
        ));
    elsif tg_op = 'DELETE' then
        perform forget_images('project', array_agg(id), array_agg(listing_id)) from old_rows;
    elsif tg_op = 'TRUNCATE' then
        perform forget_all_images('project');
        perform enqueue_all_for_matching('project');
    else
        -- gone: its key changed, or it moved to a listing that is no project
        perform forget_images('project', array_agg(old_rows.id), array_agg(old_rows.listing_id))
        from old_rows
        left join new_rows on new_rows.id = old_rows.id
        left join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
        where new_rows.id is null or (listings.id is null and new_rows.listing_id is distinct from old_rows.listing_id);

        perform enqueue_for_models('image_ai', 'project', array(
            select new_rows.id from new_rows
            join listings on listings.id = new_rows.listing_id and listings.type::text = 'project'
            left join old_rows on old_rows.id = new_rows.id
            where old_rows.id is null or old_rows.image_url is distinct from new_rows.image_url
               -- it may come from a listing that is no project
               or (old_rows.listing_id is distinct from new_rows.listing_id
                   and not exists (select from image_ai where source = 'project' and image_id = new_rows.id))
        ));
        perform enqueue_owners('project', array_agg(old_rows.listing_id) || array_agg(new_rows.listing_id))
        from new_rows
        join old_rows on old_rows.id = new_rows.id
        where old_rows.listing_id is distinct from new_rows.listing_id;
    end if;
    return null;
end
$$;

create or replace function product_images_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_for_models('image_ai', 'product', array(
            select new_rows.id from new_rows join products on products.id = new_rows.product_id
        ));
    elsif tg_op = 'DELETE' then
        perform forget_images('product', array_agg(id), array_agg(product_id)) from old_rows;
    elsif tg_op = 'TRUNCATE' then
        perform forget_all_images('product');
        perform enqueue_all_for_matching('project');
    else
        perform forget_images('product', array_agg(old_rows.id), array_agg(old_rows.product_id))
        from old_rows
        left join new_rows on new_rows.id = old_rows.id
        left join products on products.id = new_rows.product_id
        where new_rows.id is null or (products.id is null and new_rows.product_id is distinct from old_rows.product_id);

        perform enqueue_for_models('image_ai', 'product', array(
            select new_rows.id from new_rows
            join products on products.id = new_rows.product_id
            left join old_rows on old_rows.id = new_rows.id
            where old_rows.id is null or old_rows.src is distinct from new_rows.src
               or (old_rows.product_id is distinct from new_rows.product_id
                   and not exists (select from image_ai where source = 'product' and image_id = new_rows.id))
        ));
        perform enqueue_owners('product', array_agg(old_rows.product_id) || array_agg(new_rows.product_id))
        from new_rows
        join old_rows on old_rows.id = new_rows.id
        where old_rows.product_id is distinct from new_rows.product_id;
    end if;
    return null;
end
$$;

create or replace function listings_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    ceased uuid[];
begin
    if tg_op = 'INSERT' then
        perform enqueue_images_of('project', array(select id from new_rows where type::text = 'project'));
    elsif tg_op = 'DELETE' then
        perform forget_owners('project', array(select id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        perform forget_all_images('project');
        perform forget_all_jobs('matches', 'project');
    else
        ceased := array(
            select old_rows.id from old_rows
            left join new_rows on new_rows.id = old_rows.id and new_rows.type::text = 'project'
            where old_rows.type::text = 'project' and new_rows.id is null
        );
        perform forget_owners('project', ceased);
        -- a worker that did not see the change may be writing the list: this job empties it afterwards
        perform enqueue_jobs('matches', 'project', array(select id from listings where id = any (ceased)));

        perform enqueue_images_of('project', array(
            select new_rows.id from new_rows
            left join old_rows on old_rows.id = new_rows.id
            where new_rows.type::text = 'project' and old_rows.type::text is distinct from 'project'
        ));
        -- its key changed
        perform enqueue_owners('project', array_agg(new_rows.id))
        from new_rows left join old_rows on old_rows.id = new_rows.id where old_rows.id is null;
    end if;
    return null;
end
$$;

create or replace function products_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_images_of('product', array(select id from new_rows));
    elsif tg_op = 'DELETE' then
        perform forget_owners('product', array(select id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        perform forget_all_images('product');
        perform forget_all_jobs('matches', 'product');
    else
        perform forget_owners('product', array_agg(old_rows.id))
        from old_rows left join new_rows on new_rows.id = old_rows.id where new_rows.id is null;

        perform enqueue_images_of('product', array_agg(new_rows.id)), enqueue_owners('product', array_agg(new_rows.id))
        from new_rows left join old_rows on old_rows.id = new_rows.id where old_rows.id is null;
    end if;
    return null;
end
$$;

select watch_changes('listings'), watch_changes('listing_images'), watch_changes('products'), watch_changes('product_images');

-- The field's processProjectImages and processProductImages, as functions.
create or replace function enqueue_project_images(project uuid) returns integer
language sql as $$
    select enqueue_for_models('image_ai', 'project', array(
        select image_id from source_images where source = 'project' and owner_id = project
    ))
$$;

create or replace function enqueue_product_images(product uuid) returns integer
language sql as $$
    select enqueue_for_models('image_ai', 'product', array(
        select image_id from source_images where source = 'product' and owner_id = product
    ))
$$;

-- Every image that has no up-to-date result by the queue's model, is not waiting and has not failed for a stated reason.
create or replace function enqueue_missing_images() returns integer
language sql as $$
    select coalesce(sum(enqueue_jobs(queue_name, source, ids)), 0)::integer
    from (
        select each.queue_name, source, array_agg(image_id) as ids
        from model_queues('image_ai') as each, source_images
        where not exists (
            select from image_ai
            where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
              and image_ai.model = each.model and image_ai.image_url = source_images.url
        ) and not exists (
            select from job_queue
            where job_queue.entity_id = source_images.image_id and job_queue.entity_kind = source_images.source
              and job_queue.queue = each.queue_name and job_queue.status <> 'completed'
        )
        group by each.queue_name, source
    ) as missing
$$;

-- How many images the queue's model covers, and the state of the others.
create or replace function image_coverage(queue_name text, out what text, out rows bigint, out covered bigint, out waiting bigint,
    out failed_for_good bigint, out unaccounted bigint)
language sql stable as $$
    select 'images', count(*),
        count(*) filter (where up_to_date),
        count(*) filter (where not up_to_date and waiting),
        count(*) filter (where not up_to_date and not waiting and failed),
        count(*) filter (where not up_to_date and not waiting and not failed)
    from (
        select
            exists (
                select from image_ai
                where image_ai.source = source_images.source and image_ai.image_id = source_images.image_id
                  and image_ai.model = (select queue_model(queue_name)) and image_ai.image_url = source_images.url
            ) as up_to_date,
            coalesce(bool_or(job_queue.status in ('pending', 'processing')), false) as waiting,
            coalesce(bool_or(job_queue.status = 'failed'), false) as failed
        from source_images
        left join job_queue on job_queue.entity_id = source_images.image_id and job_queue.queue = queue_name
            and job_queue.entity_kind = source_images.source and job_queue.status <> 'completed'
        group by source_images.source, source_images.image_id, source_images.url
    ) as image
$$;
