-- name: begin_rebuild
insert into rebuilds (kind, begun_by) values (%(kind)s, %(begun_by)s) returning number

-- name: plan_project_shards
insert into rebuild_shards (rebuild, place, entities, first_project, before_project)
select %(rebuild)s, place, entities, first_project, before_project from project_shards(%(size)s)

-- name: project_ranges
select first_project as first, before_project as before from project_shards(%(size)s) order by place

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
