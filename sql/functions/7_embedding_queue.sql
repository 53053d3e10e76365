-- The field's `embedding_queue`: the queue `job_embeddings` by the names that its document gives. Apps that insert
-- into it, and operators who clear `processed_at` and `error_message`, need not change.

create or replace view embedding_queue with (security_invoker = true) as
    select id, entity_id as job_id, status,
        attempts - snoozes - case when status in ('processing', 'completed') then 1 else 0 end as retry_count,
        error_message, created_at, completed_at as processed_at
    from job_queue
    where queue = 'job_embeddings' and entity_kind = 'posting';
comment on column embedding_queue.retry_count is 'attempts that failed; after the third the row has failed';
comment on column embedding_queue.processed_at is 'when the row ended, completed or failed';

create or replace function embedding_queue_written() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    owed embedding_queue;
begin
    if tg_op = 'DELETE' then
        delete from job_queue where id = old.id;
        return old;
    end if;
    if tg_op = 'INSERT' then
        if not exists (select from jobs where id = new.job_id) then
            raise exception 'embedding_queue: there is no job %', new.job_id using errcode = 'foreign_key_violation';
        end if;
        perform enqueue_for_models('job_embeddings', 'posting', array[new.job_id]);
    elsif new is not distinct from old then
        return new;
    elsif new.job_id is distinct from old.job_id or new.processed_at is not null or new.error_message is not null then
        raise exception 'embedding_queue: to try a job again set its processed_at and error_message to null; nothing else can be set'
            using errcode = 'feature_not_supported';
    elsif old.status = 'failed' then
        perform retry_jobs('job_embeddings', array[old.id]);
    elsif old.status <> 'processing' then
        perform enqueue_jobs('job_embeddings', 'posting', array[old.job_id]);
    end if;
    -- what RETURNING shows
    select * into owed from embedding_queue where job_id = new.job_id and status = 'pending' limit 1;
    if found then
        return owed;
    end if;
    return new;
end
$$;

create or replace trigger matching_pipeline_write instead of insert or update or delete on embedding_queue
    for each row execute function embedding_queue_written();
