-- name: find_ai_answers
with found as (
    select input_hash, answer, input_tokens, output_tokens
    from matching_pipeline.ai_answers
    where model = %(model)s and input_hash = any (%(input_hashes)b::bytea[])
), counted as (
    insert into matching_pipeline.ai_cache_hits as hits (day, model, answers)
    select (now() at time zone 'utc')::date, %(model)s, count(*) from found having count(*) > 0
    on conflict (day, model) do update set answers = hits.answers + excluded.answers
)
select input_hash, answer, input_tokens, output_tokens from found

-- name: keep_ai_answers
insert into matching_pipeline.ai_answers (model, input_hash, answer, input_tokens, output_tokens)
select %(model)s, input_hash, answer, input_tokens, output_tokens
from unnest(
    %(input_hashes)b::bytea[], %(answers)b::bytea[], %(input_tokens)s::integer[], %(output_tokens)s::integer[]
) as kept (input_hash, answer, input_tokens, output_tokens)
on conflict do nothing

-- name: purge_ai_answers
delete from matching_pipeline.ai_answers
where (model, input_hash) in (
    select model, input_hash
    from (
        select model, input_hash, sum(octet_length(answer)) over before as bytes_before
        from (
            select model, input_hash, answer, created_at from matching_pipeline.ai_answers where created_at < now() - %(keep)s::interval
            order by created_at
            limit 5000
        ) as oldest
        window before as (order by created_at, model, input_hash rows between unbounded preceding and 1 preceding)
    ) as measured
    -- a picture is a thousand times larger than an embedding
    where coalesce(bytes_before, 0) < 64 * 1024 * 1024
)
