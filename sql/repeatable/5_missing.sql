-- What the queues of items have done, and what they lack.

-- The items that the queue's sources have, with the state of each under the queue's model.
create or replace function item_states(queue_name text)
returns table (source text, kind text, key text, up_to_date boolean, waiting boolean, failed boolean)
language sql stable set search_path from current as $$
    with served as (
        select sources.name as source, case when declaration ->> 'pictures' is null then 'entity' else 'item' end as kind
        from sources where regexp_replace(queue_name, '_shadow$', '') = any (queues)
    ), unfinished as (
        select jobs.source, jobs.key, bool_or(status in ('pending', 'processing')) as waiting, bool_or(status = 'failed') as failed
        from jobs join served using (source, kind)
        where jobs.queue = queue_name and jobs.status <> 'completed'
        group by jobs.source, jobs.key
    ), mirrored as (
        select items.source, items.key, coalesce(embeddings.item, derived.item) is not null as up_to_date
        from items join served using (source)
        left join derived_items(queue_name) as derived on derived.source = items.source and derived.item = items.id
        left join embeddings on embeddings.source = items.source and embeddings.item = items.id
            and embeddings.model = (select queue_model(queue_name)) and embeddings.input is not distinct from items.content
            and (items.content_hash is null or embeddings.input_hash = items.content_hash)
    )
    select source, served.kind, key, coalesce(mirrored.up_to_date, false), coalesce(unfinished.waiting, false),
        coalesce(unfinished.failed, false)
    from mirrored
    full join unfinished using (source, key)
    join served using (source)
$$;

-- Enqueues the items of the mirror that have no up-to-date result by the queue's model, do not wait and have not failed for a
-- stated reason. Without a queue it does so for all queues.
create or replace function enqueue_missing(queue_name text default null) returns integer
language sql set search_path from current as $$
    select coalesce(sum(enqueue_jobs(each.queue_name, missing.source, missing.kind, missing.keys)), 0)::integer
    from queues
    cross join model_queues(queues.name) as each
    cross join lateral (
        select source, kind, array_agg(key) as keys
        from item_states(each.queue_name)
        where not up_to_date and not waiting and not failed
        group by source, kind
    ) as missing
    where queues.work in ('image', 'text', 'derive') and enqueue_missing.queue_name in (each.queue_name, queues.name) is not false
$$;

-- Enqueues the pictures that were fetched longer ago than that. Those that wait or have failed stay as they are.
create or replace function enqueue_looks(age interval) returns integer
language sql set search_path from current as $$
    select coalesce(sum(enqueue_jobs(each.queue_name, old.source, old.kind, old.keys)), 0)::integer
    from queues
    cross join model_queues(queues.name) as each
    cross join lateral (
        select states.source, states.kind, array_agg(states.key) as keys
        from item_states(each.queue_name) as states
        join embeddings on embeddings.source = states.source and embeddings.item = key_id(states.key)
            and embeddings.model = queue_model(each.queue_name)
        where up_to_date and not waiting and not failed and looked_at < now() - age and input not like 'data:%'
        group by states.source, states.kind
    ) as old
    where queues.work = 'image'
$$;

-- How many entities or items the queue has done, and the state of the others.
create or replace function queue_coverage(queue_name text, out what text, out rows bigint, out covered bigint, out waiting bigint,
    out failed_for_good bigint, out unaccounted bigint)
language plpgsql stable set search_path from current as $$
declare
    queue_work text := (select work from queues where name in (queue_name, regexp_replace(queue_name, '_shadow$', '')) limit 1);
begin
    if queue_work in ('image', 'text', 'derive') then
        select case queue_work when 'image' then 'images' when 'text' then 'texts' else 'items' end, count(*), count(*) filter (where states.up_to_date),
            count(*) filter (where not states.up_to_date and states.waiting),
            count(*) filter (where not states.up_to_date and not states.waiting and states.failed),
            count(*) filter (where not states.up_to_date and not states.waiting and not states.failed)
        into what, rows, covered, waiting, failed_for_good, unaccounted
        from item_states(queue_name) as states;
    elsif queue_work = 'match' then
        select 'entities have matches', count(*),
            count(*) filter (where exists (select from matches where matcher = matchers.name and left_id = entities.id)
                or (left_source = right_source and exists (select from matches where matcher = matchers.name and right_id = entities.id))),
            0, 0, 0
        into what, rows, covered, waiting, failed_for_good, unaccounted
        from matchers join entities on entities.source = matchers.left_source
        where matchers.queue = queue_name;
    elsif queue_work = 'publish' then
        select 'tables of the app', count(*), count(*) filter (where unpublished = 0 and is_compared),
            count(*) filter (where not (unpublished = 0 and is_compared)), 0, 0
        into what, rows, covered, waiting, failed_for_good, unaccounted
        from publication_states();
    else
        select * into what, rows, covered, waiting, failed_for_good, unaccounted from generated_images_coverage();
    end if;
end
$$;
