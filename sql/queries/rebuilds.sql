-- name: begin_rebuild
insert into matching_pipeline.rebuilds (matcher, begun_by) values (%(matcher)s, %(begun_by)s) returning number

-- name: plan_ranges
insert into matching_pipeline.rebuild_shards (rebuild, place, entities, first_entity, before_entity)
select %(rebuild)s, place, entities, first_entity, before_entity from matching_pipeline.left_shards(%(matcher)s, %(size)s)

-- name: left_ranges
select first_entity as first, before_entity as before from matching_pipeline.left_shards(%(matcher)s, %(size)s) order by place

-- name: plan_blocks
insert into matching_pipeline.rebuild_shards (rebuild, place, entities, blocks)
select %(rebuild)s, row_number() over (order by shard), sum(members), jsonb_agg(same order by same nulls first)
from (
    select same, members, (sum(members) over (order by same nulls first) - members)::bigint / %(size)s as shard
    from (
        select same, count(*) as members from matching_pipeline.matchable_entities(%(matcher)s) group by same
        union all
        select null, 0
    ) as counted
) as placed
group by shard

-- name: blocks
select distinct same from matching_pipeline.matchable_entities(%(matcher)s) order by same

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
select count(*), coalesce(sum(seconds), 0), coalesce(jsonb_agg(figures), '[]')
from matching_pipeline.rebuild_shards
where figures is not null and rebuild in (select max(number) from matching_pipeline.rebuilds where begun_by = %(begun_by)s group by matcher)

-- name: forget_rebuilds
delete from matching_pipeline.rebuilds where begun_at < now() - %(keep)s::interval
