-- name: lock_asker
select pg_advisory_lock(hashtext('matching_pipeline.asking'), pg_backend_pid())

-- name: forget_dead_askers
delete from matching_pipeline.ai_asking where pg_try_advisory_xact_lock(hashtext('matching_pipeline.asking'), asker)

-- name: begin_asking
insert into matching_pipeline.ai_asking (model, input_hash, asker)
select %(model)s, input_hash, pg_backend_pid() from unnest(%(input_hashes)b::bytea[]) as input_hash
order by input_hash
on conflict (model, input_hash) do update set asker = excluded.asker
where %(late)s or pg_try_advisory_xact_lock(hashtext('matching_pipeline.asking'), ai_asking.asker)
returning input_hash

-- name: end_asking
delete from matching_pipeline.ai_asking
where (model, input_hash) in (
    select model, input_hash from matching_pipeline.ai_asking
    where model = %(model)s and input_hash = any (%(input_hashes)b::bytea[]) and asker = pg_backend_pid()
    order by input_hash  -- every session locks the rows in this order
    for update
)
