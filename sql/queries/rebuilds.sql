-- name: begin_rebuild
insert into rebuilds (kind, begun_by) values (%(kind)s, %(begun_by)s) returning number

-- name: plan_project_shards
with listed as (
    select owner_id as id from source_images where source = 'project'
    union
    select project_id from matches where kind = 'project'
), bounded as (
    -- null is before the first: who comes later is in some shard, also where there is nobody yet
    select null::uuid as id
    union all
    select id from listed
), placed as (
    select id, ntile(greatest(1, (select (count(*) + %(size)s - 1) / %(size)s from listed))::integer)
        over (order by id nulls first) as place
    from bounded
)
insert into rebuild_shards (rebuild, place, entities, first_project, before_project)
select %(rebuild)s, place, count(id), (array_agg(id order by id nulls first))[1],
    lead((array_agg(id order by id nulls first))[1]) over (order by place)
from placed
group by place

-- name: plan_face_shards
insert into rebuild_shards (rebuild, place, entities, schools)
select %(rebuild)s, row_number() over (order by shard), sum(faces), array_agg(school order by school nulls first)
from (
    select school, faces, (sum(faces) over (order by school nulls first) - faces)::bigint / %(size)s as shard
    from (
        select school, count(*) as faces from matchable_faces group by school
        union all
        select null, 0
    ) as counted
) as placed
group by shard

-- name: shards
select rebuild_shards.*, rebuilds.kind
from rebuild_shards
join rebuilds on rebuilds.number = rebuild_shards.rebuild
where rebuild = %(rebuild)s and (%(place)s::integer is null or place = %(place)s)
order by place

-- name: newest_rebuild
select max(number) from rebuilds where kind = %(kind)s

-- name: finish_shard
update rebuild_shards set figures = %(figures)s, seconds = %(seconds)s where rebuild = %(rebuild)s and place = %(place)s

-- name: rebuild_figures
select count(*), coalesce(sum(seconds), 0), coalesce(jsonb_agg(figures), '[]')
from rebuild_shards
where figures is not null and rebuild in (select max(number) from rebuilds where begun_by = %(begun_by)s group by kind)

-- name: forget_rebuilds
delete from rebuilds where begun_at < now() - %(keep)s::interval
