-- name: commit_without_waiting
select set_config('synchronous_commit', 'off', false)

-- name: record_ai_call
insert into matching_pipeline.ai_calls
    (queue, model, items, input_tokens, output_tokens, cost_usd, milliseconds, outcome, request_id, error)
values (
    %(queue)s, %(model)s, %(items)s, %(input_tokens)s, %(output_tokens)s, %(cost_usd)s, %(milliseconds)s, %(outcome)s,
    %(request_id)s, %(error)s
)

-- name: reserve_spending
-- one row a day, so that all processes take turns
insert into matching_pipeline.ai_spending as today (day, reserved_usd)
select (now() at time zone 'utc')::date, %(most)s::numeric where %(most)s::numeric <= %(budget)s::numeric
on conflict (day) do update set reserved_usd = today.reserved_usd + excluded.reserved_usd
where today.spent_usd + today.reserved_usd + excluded.reserved_usd <= %(budget)s::numeric
returning day

-- name: settle_spending
insert into matching_pipeline.ai_spending as that_day (day, spent_usd)
values (coalesce(%(day)s::date, (now() at time zone 'utc')::date), %(cost)s::numeric)
on conflict (day) do update
set spent_usd = that_day.spent_usd + excluded.spent_usd, reserved_usd = that_day.reserved_usd - %(reserved)s::numeric

-- name: spent_today
select coalesce((select spent_usd from matching_pipeline.ai_spending where day = (now() at time zone 'utc')::date), 0),
    extract(epoch from date_trunc('day', now() at time zone 'utc') + interval '1 day' - now() at time zone 'utc')::double precision

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
