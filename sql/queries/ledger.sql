-- name: record_ai_call
with call as (
    insert into ai_calls
        (lane, model, items, input_tokens, output_tokens, cost_usd, milliseconds, outcome, request_id, error)
    values (
        %(queue)s, %(model)s, %(items)s, %(input_tokens)s, %(output_tokens)s, %(cost_usd)s, %(milliseconds)s, %(outcome)s,
        %(request_id)s, %(error)s
    )
)
insert into ai_answers (model, input_hash, answer, input_tokens, output_tokens)
select %(answered_by)s, input_hash, answer, input_tokens, output_tokens
from unnest(
    %(input_hashes)b::bytea[], %(answers)b::bytea[], %(answer_input_tokens)s::integer[], %(answer_output_tokens)s::integer[]
) as kept (input_hash, answer, input_tokens, output_tokens)
on conflict do nothing

-- name: open_ledger
select set_config('synchronous_commit', 'off', false),
    pg_advisory_lock(hashtext('matching_pipeline.asking'), pg_backend_pid())

-- name: forget_dead_askers
delete from ai_asking where pg_try_advisory_xact_lock(hashtext('matching_pipeline.asking'), asker)

-- name: begin_asking
insert into ai_asking (model, input_hash, asker)
select %(model)s, input_hash, pg_backend_pid() from unnest(%(input_hashes)b::bytea[]) as input_hash
order by input_hash
on conflict (model, input_hash) do update set asker = excluded.asker
where %(late)s or pg_try_advisory_xact_lock(hashtext('matching_pipeline.asking'), ai_asking.asker)
returning input_hash

-- name: end_asking
delete from ai_asking
where (model, input_hash) in (
    select model, input_hash from ai_asking
    where model = %(model)s and input_hash = any (%(input_hashes)b::bytea[]) and asker = pg_backend_pid()
    order by input_hash  -- as others lock them
    for update
)

-- name: known_ai_answers
select input_hash, answer, input_tokens, output_tokens
from ai_answers
where model = %(model)s and input_hash = any (%(input_hashes)b::bytea[])

-- name: spent_today
select coalesce(sum(cost_usd), 0),
    extract(epoch from date_trunc('day', now() at time zone 'utc') + interval '1 day' - now() at time zone 'utc')::double precision
from ai_calls
where created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'

-- name: lane_cost_today
select calls.requests, calls.failed_requests, calls.cost_usd, completed.rows,
    round(1000 * calls.cost_usd / nullif(completed.rows, 0), 6) as cost_usd_per_thousand_rows
from (
    select count(*) as requests, count(*) filter (where outcome <> 'answered') as failed_requests,
        coalesce(sum(cost_usd), 0) as cost_usd
    from ai_calls
    where lane = any (%(lanes)s) and created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'
) as calls,
(
    select count(*) as rows from job_queue
    where queue = any (%(lanes)s) and status = 'completed'
      and completed_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc'
) as completed

-- name: purge_ai_answers
delete from ai_answers
where (model, input_hash) in (
    select model, input_hash
    from (
        select model, input_hash, sum(octet_length(answer)) over before as bytes_before
        from (
            select model, input_hash, answer, created_at from ai_answers where created_at < now() - %(keep)s::interval
            order by created_at
            limit 5000
        ) as oldest
        window before as (order by created_at, model, input_hash rows between unbounded preceding and 1 preceding)
    ) as measured
    -- a picture is a thousand times larger than an embedding
    where coalesce(bytes_before, 0) < 64 * 1024 * 1024
)

-- name: purge_ai_calls
delete from ai_calls
where id in (select id from ai_calls where created_at < now() - %(keep)s::interval order by created_at limit 5000)
