-- Everything, in every queue, that has no up-to-date result, is not waiting and has not failed for a stated reason.
create or replace function enqueue_missing() returns integer
language sql as $$
    select enqueue_missing_images() + enqueue_missing_postings()
$$;
