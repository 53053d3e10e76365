-- name: declare_queue
-- a new queue announces its jobs if the others do
insert into matching_pipeline.queues (name, work, notify)
values (%(name)s, %(work)s, (select coalesce(bool_and(notify), true) from matching_pipeline.queues))
on conflict (name) do update set work = excluded.work where queues.work <> excluded.work

-- name: set_notify
update matching_pipeline.queues set notify = %(notify)s where notify <> %(notify)s

-- name: source_problems
select matching_pipeline.source_problems(%(declaration)s)

-- name: missing_schemas
select name from unnest(%(names)s::text[]) as name where to_regnamespace(quote_ident(name)) is null

-- name: attach_source
select matching_pipeline.attach_source(%(declaration)s, %(queues)s, %(declared_queues)s)

-- name: watched_kinds
select kind from matching_pipeline.watched_tables(%(name)s)

-- name: make_triggers
select matching_pipeline.make_triggers(%(name)s, %(kind)s)

-- name: wait_for_writers
select matching_pipeline.wait_for_writers(%(name)s, %(kind)s)

-- name: tables_with_triggers
select distinct existing.of_table::oid, exists (
    select from matching_pipeline.watched_tables(%(name)s) as watched
    where watched.kind = existing.kind and watched.of_table = existing.of_table
) as is_watched
from matching_pipeline.existing_triggers(%(name)s) as existing

-- name: drop_triggers
select matching_pipeline.drop_triggers(%(name)s, %(table)s)

-- name: lock_attaching
-- the session holds the lock: two that attach take turns
select pg_advisory_lock(hashtext('matching_pipeline.attach'))

-- name: unlock_attaching
select pg_advisory_unlock(hashtext('matching_pipeline.attach'))

-- name: attach_matcher
insert into matching_pipeline.matchers (name, queue, left_source, right_source, declaration)
values (%(name)s, %(queue)s, %(left)s, %(right)s, %(declaration)s)
on conflict (name) do update set
    queue = excluded.queue, left_source = excluded.left_source, right_source = excluded.right_source,
    declaration = excluded.declaration

-- name: make_exception_triggers
select matching_pipeline.make_exception_triggers(%(name)s)

-- name: matcher_problems
-- `left` and `right` are the declarations of its sources
select problem from matching_pipeline.publication_problems(%(matcher)s, %(left)s, %(right)s) as problem
where %(matcher)s::jsonb ->> 'publish' is not null
union all
select matching_pipeline.exception_problems(%(matcher)s)
union all
select problem from (select distinct source from unnest(array[%(left)s, %(right)s]::jsonb[]) as source) as sides
cross join lateral matching_pipeline.opposite_problems(%(matcher)s, source) as problem

-- name: stray_exceptions
select substring(tgname from '^matching_pipeline_(.*)_except_[a-z]+$') from pg_trigger
where tgfoid = 'matching_pipeline.exceptions_changed()'::regprocedure
except
select name from matching_pipeline.matchers where matching_pipeline.is_attached_matcher(name)

-- name: give_first_settings
select matching_pipeline.give_first_settings(%(name)s)

-- name: attach_publication
select matching_pipeline.attach_publication(%(name)s)

-- name: make_publishing_triggers
select matching_pipeline.make_publishing_triggers()

-- name: make_write_back_triggers
select matching_pipeline.make_write_back_triggers()

-- name: join_realtime
select matching_pipeline.join_realtime()

-- name: detach_source
select matching_pipeline.detach_source(%(name)s, %(forget)s)

-- name: detach_queue
select matching_pipeline.detach_queue(%(name)s)

-- name: attached_queues
select name, null from matching_pipeline.queues order by name

-- name: attached_sources
select name, declaration, queues from matching_pipeline.sources where attached_at is not null order by name

-- name: attached_matchers
select name, declaration, queue from matching_pipeline.matchers order by name

-- name: read_source
select * from matching_pipeline.read_source(%(source)s, %(kind)s, %(keys)s)

-- name: source_keys
select matching_pipeline.source_keys(%(source)s, %(after)s, %(size)s)

-- name: children_of
select matching_pipeline.children_of(%(source)s, %(keys)s)

-- name: enqueue_in_every_queue
select matching_pipeline.enqueue_keys(%(source)s, %(kind)s, %(keys)s)

-- name: has_pictures
select declaration ->> 'pictures' is not null from matching_pipeline.sources where name = %(source)s

-- name: parent_of
select coalesce(parent ->> 'name', parent ->> 'table'), parent ->> 'table',
    array_to_string(matching_pipeline.key_columns(parent -> 'key'), ', '), array_to_string(matching_pipeline.key_columns(parent -> 'on'), ', ')
from matching_pipeline.sources
cross join lateral (select declaration -> 'parent' as parent) as declared
where name = %(source)s

-- name: add_entities
insert into matching_pipeline.entities (source, id, key, parent_key, user_key, properties, embedding)
select %(source)s, matching_pipeline.key_id(key), key, parent_key, user_key, properties, matching_pipeline.comparable(%(source)s, embedding)
from unnest(%(keys)s::text[], %(parent_keys)s::text[], %(user_keys)s::text[], %(properties)s::jsonb[], %(embeddings)b::vector[])
    as read (key, parent_key, user_key, properties, embedding)
order by 2
on conflict (source, id) do nothing
returning key

-- name: add_bare_entities
insert into matching_pipeline.entities (source, id, key)
select %(source)s, matching_pipeline.key_id(key), key from unnest(%(keys)s::text[]) as gone (key)
order by 2
on conflict (source, id) do nothing

-- name: lock_entities
select id from matching_pipeline.entities
where source = %(source)s and id = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])
order by id
for no key update

-- name: update_entities
update matching_pipeline.entities set
    parent_key = read.parent_key, user_key = read.user_key, properties = read.properties, embedding = read.embedding
from (
    select key, parent_key, user_key, properties, matching_pipeline.comparable(%(source)s, embedding) as embedding
    from unnest(%(keys)s::text[], %(parent_keys)s::text[], %(user_keys)s::text[], %(properties)s::jsonb[], %(embeddings)b::vector[])
        as given (key, parent_key, user_key, properties, embedding)
    offset 0
) as read
where entities.source = %(source)s and entities.id = matching_pipeline.key_id(read.key)
  and (entities.parent_key, entities.user_key, entities.properties, entities.embedding)
      is distinct from (read.parent_key, read.user_key, read.properties, read.embedding)

-- name: put_items
insert into matching_pipeline.items as stored (source, id, entity, key, content, content_hash)
select %(source)s, matching_pipeline.key_id(key), matching_pipeline.key_id(entity_key), key, content, content_hash
from unnest(%(keys)s::text[], %(entity_keys)s::text[], %(contents)s::text[], %(content_hashes)s::bytea[])
    as read (key, entity_key, content, content_hash)
order by 2
on conflict (source, id) do update set
    entity = excluded.entity, content = excluded.content, content_hash = excluded.content_hash
where (stored.entity, stored.content, stored.content_hash) is distinct from (excluded.entity, excluded.content, excluded.content_hash)

-- name: items_of_entities
select items.key from matching_pipeline.items
where items.source = %(source)s and items.entity = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])

-- name: entities_of_items
select entities.key from matching_pipeline.items
join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity
where items.source = %(source)s and items.id = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])

-- name: entities_of_parents
select key from matching_pipeline.entities where source = %(source)s and parent_key = any (%(keys)s)

-- name: erase_entities
select unnest(matching_pipeline.erase_entities(%(source)s, %(keys)s, %(of_status)s))

-- name: erase_items
select unnest(matching_pipeline.erase_items(%(source)s, %(keys)s, %(of_status)s))

-- name: entities_from
select id, key from matching_pipeline.entities
where source = %(source)s and (%(after)s::uuid is null or id > %(after)s::uuid)
order by id limit %(size)s

-- name: mirrored_entities
select key, parent_key, user_key, properties, embedding from matching_pipeline.entities
where source = %(source)s and id = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])

-- name: mirrored_items
select items.key, items.content, items.content_hash, entities.key as entity_key
from matching_pipeline.items
join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity
where items.source = %(source)s and items.entity = any ((select matching_pipeline.key_ids(%(keys)s))::uuid[])

-- name: set_caused_at
select set_config('matching_pipeline.caused_at', %(caused_at)s, true)

-- name: enqueue_soon
-- not at once: another session has locked some of it for a moment
insert into matching_pipeline.jobs (queue, source, kind, key, run_at, caused_at)
select %(queue)s, %(source)s, %(kind)s, key, now() + interval '1 second', matching_pipeline.transaction_caused_at()
from unnest(%(keys)s::text[]) as key
where not exists (
    select from matching_pipeline.jobs
    where jobs.key = key.key and jobs.source = %(source)s and jobs.queue = %(queue)s and jobs.kind = %(kind)s and status = 'pending'
)

-- name: enqueue_table
insert into matching_pipeline.jobs (queue, source, kind, key, payload, run_at, caused_at)
values (
    %(queue)s, %(source)s, 'table', %(after)s, %(payload)s, case when %(first)s then now() - interval '1 hour' else now() end,
    matching_pipeline.transaction_caused_at()
)

-- name: forget_job
delete from matching_pipeline.jobs where id = %(id)s

-- name: forget_jobs_of_erased
delete from matching_pipeline.jobs
where id = any (%(ids)s::uuid[]) and status = 'completed' and kind = 'entity' and not exists (
    select from matching_pipeline.entities where entities.source = jobs.source and entities.id = matching_pipeline.key_id(jobs.key)
)

-- name: items_without_result
select key
from unnest(%(keys)s::text[], %(contents)s::text[]) as read (key, content)
where not exists (
    select from matching_pipeline.embeddings
    where source = %(source)s and item = matching_pipeline.key_id(read.key)
      and model = matching_pipeline.queue_model(%(queue)s) and input is not distinct from read.content
) and matching_pipeline.key_id(key) not in (
    select item from matching_pipeline.derived_items(%(queue)s, %(source)s, (select matching_pipeline.key_ids(%(keys)s))::uuid[])
)

-- name: expose_images
select matching_pipeline.expose_images(%(declaration)s)

-- name: attach_derived
select matching_pipeline.attach_derived(%(declaration)s)

-- name: expose_derived
select matching_pipeline.expose_derived(%(declaration)s)

-- name: expose_texts
select matching_pipeline.expose_texts(%(declaration)s)

-- name: expose_matches
select matching_pipeline.expose_matches(%(declaration)s)

-- name: expose_generated_images
select matching_pipeline.expose_generated_images(%(declaration)s)

-- name: types_problem
-- statements that read rows name the types of keys
select 'the columns of ' || (declaration ->> 'table') || ' have other types or another index now: `matching-pipeline attach` repairs it'
from matching_pipeline.sources where name = %(name)s and reads <> matching_pipeline.source_reads(declaration)

-- name: write_back_problem
-- whether the function that writes the app's status may do so: it has the rights of its owner
select format('the owner of matching_pipeline may not update the column %%s of %%s', declaration #>> '{write_back,status}', of_table)
from matching_pipeline.sources
cross join lateral (select to_regclass(declaration ->> 'table')) as own (of_table)
join pg_proc on pg_proc.oid = 'matching_pipeline.write_status'::regproc
where name = %(name)s and declaration #>> '{write_back,status}' is not null
  and case when matching_pipeline.column_type(of_table, declaration #>> '{write_back,status}') is not null
      then not has_column_privilege(proowner, of_table, declaration #>> '{write_back,status}', 'update') end
union all
select format('%%s statuses are not written yet: %%s', count(*), min(error_message)) from matching_pipeline.jobs
where source = %(name)s and kind = 'status' and status = 'pending' and error_message <> 'its row is locked'
having count(*) > 0

-- name: source_states
-- the rows as the statistics of Postgres count them, partitions included
select sources.name, sources.declaration ->> 'table' as "table", attached_at is not null as is_attached,
    own.of_table is not null as has_table,
    coalesce((
        select sum(greatest(reltuples, pg_stat_get_live_tuples(oid), 0))
        from pg_class where oid = own.of_table or oid in (select relid from pg_partition_tree(own.of_table))
    ), 0)::bigint as rows,
    (select count(*) from matching_pipeline.entities where entities.source = sources.name) as mirrored,
    (
        select count(*) from matching_pipeline.jobs
        where jobs.source = sources.name and status in ('pending', 'processing')
    ) as unfinished,
    (select count(*) from matching_pipeline.jobs where jobs.source = sources.name and status = 'failed') as failed,
    array(select problem from matching_pipeline.trigger_problems(sources.name) as problem) as trigger_problems
from matching_pipeline.sources
cross join lateral (select to_regclass(sources.declaration ->> 'table')) as own (of_table)
order by sources.name
