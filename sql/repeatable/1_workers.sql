-- The number that names workers among advisory locks.
create or replace function worker_lock() returns integer
language sql immutable as $$
    select hashtext('matching_pipeline.worker')
$$;
