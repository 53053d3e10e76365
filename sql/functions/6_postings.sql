-- Which job postings are embedded, and what happens when the app changes them. Only active postings are: an
-- inactive posting has no jobs, and no search finds it.

-- What a posting says: its title, company and description, without those that are empty.
create or replace function posting_text(title text, company text, description text) returns text
language sql stable as $$
    select concat_ws(E'\n\n',
        nullif(btrim(title, E' \t\r\n'), ''), nullif(btrim(company, E' \t\r\n'), ''), nullif(btrim(description, E' \t\r\n'), ''))
$$;

create or replace function posting_hash(title text, company text, description text) returns bytea
language sql stable as $$
    select sha256(convert_to(posting_text(title, company, description), 'UTF8'))
$$;

create or replace view source_postings with (security_invoker = true) as
    select id as job_id, posting_text(title::text, company::text, description::text) as text,
        posting_hash(title::text, company::text, description::text) as input_hash
    from jobs
    where is_active;

-- Those with a current embedding: by the active model, and of what they say now.
create or replace view embedded_postings with (security_invoker = true) as
    select source_postings.job_id
    from source_postings
    join job_embeddings on job_embeddings.job_id = source_postings.job_id
        and job_embeddings.input_hash = source_postings.input_hash
    join embedding_models on embedding_models.name = job_embeddings.model
        and embedding_models.modality = 'text' and embedding_models.status = 'active';

-- Enqueues those of these postings that are active and lack a current embedding by the active model or the shadow.
create or replace function enqueue_postings(ids uuid[]) returns integer
language sql as $$
    select enqueue_for_models('job_embeddings', 'posting', array(
        select job_id from source_postings
        where job_id = any (ids) and (
            exists (
                select from model_queues('job_embeddings') as each
                where not exists (
                    select from job_embeddings
                    where job_embeddings.job_id = source_postings.job_id and job_embeddings.model = each.model
                      and job_embeddings.input_hash = source_postings.input_hash
                )
            )
            -- a worker may be embedding the text from before this edit, and write that result
            or exists (
                select from job_queue
                where entity_id = job_id and queue in ('job_embeddings', 'job_embeddings_shadow')
                  and entity_kind = 'posting' and status in ('pending', 'processing')
            )
        )
    ))
$$;

-- For postings that are gone or no longer active. The jobs come first: a worker that is writing a result has locked the
-- job's row, and only after that transaction can the result be seen.
create or replace function forget_postings(ids uuid[]) returns void
language plpgsql as $$
begin
    if coalesce(cardinality(ids), 0) > 0 then
        delete from job_queue
        where entity_id = any (ids) and queue in ('job_embeddings', 'job_embeddings_shadow') and entity_kind = 'posting';
        delete from job_embeddings where job_id = any (ids);
    end if;
end
$$;

create or replace function jobs_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform enqueue_for_models('job_embeddings', 'posting', array(select id from new_rows where is_active));
    elsif tg_op = 'DELETE' then
        perform forget_postings(array(select id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        -- its foreign key has emptied job_embeddings
        perform forget_all_jobs('job_embeddings', 'posting'), forget_all_jobs('job_embeddings_shadow', 'posting');
    else
        -- gone: its key changed, or it is no longer active
        perform forget_postings(array(
            select old_rows.id from old_rows
            left join new_rows on new_rows.id = old_rows.id
            where new_rows.id is null or (old_rows.is_active and new_rows.is_active is not true)
        ));
        perform enqueue_postings(array(
            select new_rows.id from new_rows
            left join old_rows on old_rows.id = new_rows.id
            where new_rows.is_active and (
                old_rows.is_active is not true
                or (old_rows.title::text, old_rows.company::text, old_rows.description::text)
                    is distinct from (new_rows.title::text, new_rows.company::text, new_rows.description::text)
            )
        ));
    end if;
    return null;
end
$$;

-- By the names that the field's document gives them.
create or replace trigger trigger_queue_embedding_insert after insert on jobs
    referencing new table as new_rows for each statement execute function jobs_changed();
create or replace trigger trigger_queue_embedding_update after update on jobs
    referencing old table as old_rows new table as new_rows for each statement execute function jobs_changed();
create or replace trigger trigger_queue_embedding_delete after delete on jobs
    referencing old table as old_rows for each statement execute function jobs_changed();
create or replace trigger trigger_queue_embedding_truncate after truncate on jobs
    for each statement execute function jobs_changed();

-- Every active posting that has no current embedding by the queue's model, is not waiting and has not failed for a stated
-- reason.
create or replace function enqueue_missing_postings() returns integer
language sql as $$
    select coalesce(sum(enqueue_jobs(queue_name, 'posting', ids)), 0)::integer
    from (
        select each.queue_name, array_agg(job_id) as ids
        from model_queues('job_embeddings') as each, source_postings
        where not exists (
            select from job_embeddings
            where job_embeddings.job_id = source_postings.job_id and job_embeddings.model = each.model
              and job_embeddings.input_hash = source_postings.input_hash
        ) and not exists (
            select from job_queue
            where entity_id = job_id and queue = each.queue_name and entity_kind = 'posting' and status <> 'completed'
        )
        group by each.queue_name
    ) as missing
$$;

-- How many active postings the queue's model covers, and the state of the others.
create or replace function posting_coverage(queue_name text, out what text, out rows bigint, out covered bigint, out waiting bigint,
    out failed_for_good bigint, out unaccounted bigint)
language sql stable as $$
    select 'postings', count(*),
        count(*) filter (where up_to_date),
        count(*) filter (where not up_to_date and waiting),
        count(*) filter (where not up_to_date and not waiting and failed),
        count(*) filter (where not up_to_date and not waiting and not failed)
    from (
        select
            exists (
                select from job_embeddings
                where job_embeddings.job_id = source_postings.job_id and job_embeddings.model = (select queue_model(queue_name))
                  and job_embeddings.input_hash = source_postings.input_hash
            ) as up_to_date,
            coalesce(bool_or(job_queue.status in ('pending', 'processing')), false) as waiting,
            coalesce(bool_or(job_queue.status = 'failed'), false) as failed
        from source_postings
        left join job_queue on job_queue.entity_id = source_postings.job_id and job_queue.queue = queue_name
            and job_queue.entity_kind = 'posting' and job_queue.status <> 'completed'
        group by source_postings.job_id, source_postings.input_hash
    ) as posting
$$;

-- The active postings nearest to this one by the cosine of their embeddings, by the active model; exact. A posting
-- without an embedding has no neighbours, and is not a neighbour of any.
create or replace function find_similar_jobs(job uuid, match_count integer default 10)
returns table (job_id uuid, similarity double precision)
language sql stable as $$
    select ranked.job_id, 1 - ranked.distance
    from (
        select other.job_id, own.embedding <=> other.embedding as distance
        from job_embeddings as own
        join job_embeddings as other on other.model = own.model and other.job_id <> own.job_id
        where own.job_id = job
          and own.model = (select name from embedding_models where modality = 'text' and status = 'active')
        -- in order already when `jobs` is asked: only the postings that are returned are looked up
        order by distance, other.job_id
        offset 0
    ) as ranked
    where exists (select from jobs where jobs.id = ranked.job_id and jobs.is_active)
    order by ranked.distance, ranked.job_id
    limit greatest(coalesce(match_count, 10), 0)
$$;
