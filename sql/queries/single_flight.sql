-- name: mark_gone_askers
with askers as materialized (
    select distinct asker from matching_pipeline.ai_asking where asker <> %(asker)s
),
seen as materialized (
    select asker, matching_pipeline.is_gone(asker) as gone from askers
)
update matching_pipeline.ai_asking set gone_at = case when gone_at is null then clock_timestamp() end
where (model, input_hash) in (
    select model, input_hash from matching_pipeline.ai_asking join seen using (asker)
    where gone <> (gone_at is not null)
    for update of ai_asking skip locked
)

-- name: forget_gone_askers
delete from matching_pipeline.ai_asking where gone_at < clock_timestamp() - interval '10 seconds'

-- name: begin_asking
insert into matching_pipeline.ai_asking (model, input_hash, asker)
select %(model)s, input_hash, %(asker)s from unnest(%(input_hashes)b::bytea[]) as input_hash
order by input_hash
on conflict (model, input_hash) do update set asker = excluded.asker, gone_at = null
where %(late)s or ai_asking.asker = excluded.asker or ai_asking.gone_at < clock_timestamp() - interval '10 seconds'
returning input_hash

-- name: end_asking
delete from matching_pipeline.ai_asking
where (model, input_hash) in (
    select model, input_hash from matching_pipeline.ai_asking
    where model = %(model)s and input_hash = any (%(input_hashes)b::bytea[]) and asker = %(asker)s
    order by input_hash  -- every session locks the rows in this order
    for update
)
