-- name: commit_without_waiting
select set_config('synchronous_commit', 'off', false)

-- name: record_ai_call
insert into matching_pipeline.ai_calls
    (queue, model, items, input_tokens, output_tokens, cost_usd, milliseconds, outcome, request_id, error)
values (
    %(queue)s, %(model)s, %(items)s, %(input_tokens)s, %(output_tokens)s, %(cost_usd)s, %(milliseconds)s, %(outcome)s,
    %(request_id)s, %(error)s
)

-- name: spent_today
select coalesce(sum(cost_usd), 0),
    extract(epoch from date_trunc('day', now() at time zone 'utc') + interval '1 day' - now() at time zone 'utc')::double precision
from matching_pipeline.ai_calls
where created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'

-- name: queue_cost_today
select calls.requests, calls.failed_requests, calls.cost_usd, completed.rows,
    round(1000 * calls.cost_usd / nullif(completed.rows, 0), 6) as cost_usd_per_thousand_rows
from (
    select count(*) as requests, count(*) filter (where outcome <> 'answered') as failed_requests,
        coalesce(sum(cost_usd), 0) as cost_usd
    from matching_pipeline.ai_calls
    where queue = any (%(queues)s) and created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'
) as calls,
(
    select count(*) as rows from matching_pipeline.jobs
    where queue = any (%(queues)s) and status = 'completed'
      and completed_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'
) as completed

-- name: purge_ai_calls
delete from matching_pipeline.ai_calls
where id in (select id from matching_pipeline.ai_calls where created_at < now() - %(keep)s::interval order by created_at limit 5000)
