-- name: metrics_of_jobs
-- reads the partial indexes: completed jobs, which are the most, are not counted
select queue, status, sum(jobs)::bigint as jobs, max(oldest) as oldest
from (
    select queue, status, count(*) as jobs,
        extract(epoch from now() - min(run_at) filter (where status = 'pending' and run_at <= now()))::double precision as oldest
    from matching_pipeline.jobs where status in ('pending', 'processing')
    group by queue, status
    union all
    select queue, status, count(*), null from matching_pipeline.jobs where status = 'failed' group by queue, status
    union all
    select name, status, 0, null from matching_pipeline.queues, unnest(array['pending', 'processing', 'failed']) as status
) as counted
group by queue, status

-- name: metrics_of_ended_jobs
select queue, status, width_bucket(seconds, %(bounds)s::double precision[]) as bucket, count(*) as jobs, sum(seconds) as seconds
from (
    select queue, status, completed_at, caused_at from matching_pipeline.jobs
    where status = 'completed' and completed_at > %(after)s and completed_at <= %(until)s
    union all
    select queue, status, completed_at, caused_at from matching_pipeline.jobs
    where status = 'failed' and completed_at > %(after)s and completed_at <= %(until)s
) as ended
cross join lateral (select extract(epoch from completed_at - caused_at)::double precision as seconds) as latency
where isfinite(caused_at)
group by queue, status, bucket

-- name: metrics_of_ai_calls
select queue, model, outcome, count(*) as calls, sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
    sum(cost_usd) as cost_usd
from matching_pipeline.ai_calls
where created_at > %(after)s and created_at <= %(until)s
group by queue, model, outcome

-- name: metrics_of_cache_hits
select model, sum(answers)::bigint as answers from matching_pipeline.ai_cache_hits group by model

-- name: metrics_of_matches
select matchers.name as matcher, count(matches.id) as pairs
from matching_pipeline.matchers
left join matching_pipeline.matches on matches.matcher = matchers.name
group by matchers.name

-- name: metrics_of_rebuilds
-- the newest that is complete
select distinct on (matcher) matcher, sum(seconds) as seconds, extract(epoch from begun_at)::double precision as begun
from matching_pipeline.rebuilds
join matching_pipeline.rebuild_shards on rebuild_shards.rebuild = rebuilds.number
group by matcher, number, begun_at
having bool_and(figures is not null)
order by matcher, number desc

-- name: metrics_until
-- a transaction that ends a job may take some seconds from `completed_at` to its commit
select now() - interval '30 seconds'
