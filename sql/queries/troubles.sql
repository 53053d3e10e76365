-- name: seconds_since_last_job
select extract(epoch from now() - max(completed_at))::double precision from matching_pipeline.jobs where status = 'completed'

-- name: queue_troubles
-- The newest dead letter of a queue, why its jobs are not due, and since when its provider has given no answer.
select newest.error_message as dead_letter, newest.age as dead_letter_age,
    snoozed.jobs as snoozed, snoozed.reason, snoozed.until, refused.age as refused_age, refused.error as refusal
from (
    select count(*) as jobs, to_char(min(run_at) at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS') as until,
        (array_agg(error_message order by started_at desc nulls last))[1] as reason
    from matching_pipeline.jobs
    where queue = %(queue)s and status = 'pending' and run_at > now() and error_message is not null
) as snoozed
left join lateral (
    select error_message, extract(epoch from now() - completed_at)::double precision as age
    from matching_pipeline.jobs
    where queue = %(queue)s and status = 'failed'
    order by completed_at desc limit 1
) as newest on true
cross join lateral (
    select extract(epoch from now() - min(created_at))::double precision as age, (array_agg(error order by id desc))[1] as error
    from matching_pipeline.ai_calls
    where queue = %(queue)s and outcome in ('rate limit', 'unavailable', 'configuration') and created_at > coalesce((
        select max(created_at) from matching_pipeline.ai_calls where queue = %(queue)s and outcome = 'answered'
    ), '-infinity')
) as refused

-- name: unmatchable_entities
-- The entities whose properties a matcher's rule does not know or misses, and the most frequent unknown values.
select matcher, source, property, sum(count)::bigint as entities, sum(count) filter (where value is null)::bigint as without,
    (array_agg(value order by count desc) filter (where value is not null))[:3] as unknown
from (
    select matchers.name as matcher, entities.source, compared.name as property, entities.properties ->> compared.name as value, count(*) as count
    from matching_pipeline.matchers
    join matching_pipeline.entities on entities.source in (matchers.left_source, matchers.right_source)
    cross join lateral (
        select key as name, value as known from jsonb_each(matchers.declaration -> 'opposite')
        union all
        select value, null from jsonb_array_elements_text(matchers.declaration -> 'same')
    ) as compared
    where matchers.queue = any (%(queues)s::text[])
      and (entities.properties ->> compared.name is null or not compared.known ? (entities.properties ->> compared.name))
    group by 1, 2, 3, 4
) as counted
group by matcher, source, property
order by matcher, source, property

-- name: matchers_without_pairs
-- Which sides of a matcher without pairs have entities, and entities that can be matched.
select matchers.name as matcher, side.source, match_settings.threshold,
    exists (select from matching_pipeline.entities where entities.source = side.source) as has_entities,
    exists (select from matching_pipeline.matchable_entities(matchers.name) as entity where entity.source = side.source) as has_matchable
from matching_pipeline.matchers
join matching_pipeline.match_settings on match_settings.matcher = matchers.name
cross join lateral (select distinct unnest(array[matchers.left_source, matchers.right_source]) as source) as side
where matchers.queue = any (%(queues)s::text[])
  and not exists (select from matching_pipeline.matches where matches.matcher = matchers.name)
order by matchers.name, side.source
