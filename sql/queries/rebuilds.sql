-- name: begin_rebuild
insert into matching_pipeline.rebuilds (matcher, begun_by) values (%(matcher)s, %(begun_by)s) returning number

-- name: plan_rebuild
insert into matching_pipeline.rebuild_shards (rebuild, place, entities, parts)
select %(rebuild)s, place, entities, parts from matching_pipeline.rebuild_parts(%(matcher)s, %(size)s)

-- name: rebuild_parts
select parts from matching_pipeline.rebuild_parts(%(matcher)s, %(size)s) order by place

-- name: shards
select rebuild_shards.*, rebuilds.matcher
from matching_pipeline.rebuild_shards
join matching_pipeline.rebuilds on rebuilds.number = rebuild_shards.rebuild
where rebuild = %(rebuild)s and (%(place)s::integer is null or place = %(place)s)
order by place

-- name: newest_rebuild
select max(number) from matching_pipeline.rebuilds where matcher = %(matcher)s

-- name: finish_shard
update matching_pipeline.rebuild_shards set figures = %(figures)s, seconds = %(seconds)s where rebuild = %(rebuild)s and place = %(place)s

-- name: rebuild_figures
select newest.matcher, count(*), sum(seconds), jsonb_agg(figures)
from matching_pipeline.rebuild_shards
join (
    select matcher, max(number) as number from matching_pipeline.rebuilds where begun_by = %(begun_by)s group by matcher
) as newest on newest.number = rebuild
where figures is not null
group by newest.matcher
order by newest.matcher

-- name: forget_rebuilds
delete from matching_pipeline.rebuilds where begun_at < now() - %(keep)s::interval
