-- Which faces can match, the search among them, and what happens when the app changes them.

create or replace function opposite_gender(gender text) returns text
language sql immutable parallel safe as $$
    select case gender when 'male' then 'female' when 'female' then 'male' end
$$;

-- A face matches inside its block only: those of the same school and the opposite gender.
create or replace view matchable_faces with (security_invoker = true) as
    select faces.id, faces.user_id, profiles.school::text as school, profiles.gender::text as gender, faces.embedding
    from profiles
    join faces on faces.user_id = profiles.id
    where profiles.profile_type::text = 'user' and profiles.school is not null
      and profiles.gender::text in ('male', 'female') and faces.embedding is not null;

-- The same faces, those of one block. Its users' faces are looked up by index, user by user. `offset 0` makes the planner
-- do so: it overestimates the cost of random reads, and would read the faces of all schools.
create or replace function faces_of_block(block_school text, block_gender text)
returns table (id uuid, user_id uuid, embedding vector, image_url text)
language sql stable as $$
    select theirs.id, profiles.id, theirs.embedding, theirs.image_url
    from profiles
    cross join lateral (
        select faces.id, faces.embedding, faces.image_url::text
        from faces
        where faces.user_id = profiles.id and faces.embedding is not null
        offset 0
    ) as theirs
    where profiles.school::text = block_school and profiles.gender::text = block_gender
      and profiles.gender::text in ('male', 'female') and profiles.profile_type::text = 'user'
$$;

-- The faces most like `query_embedding` for a user of this school and gender. Exact: no approximate index serves
-- it, because the candidates are filtered first and then ordered by an expression that no index holds.
create or replace function find_similar_faces_filtered(
    query_embedding vector,
    user_school text,
    user_gender text,
    match_threshold double precision default 0.5,
    match_count integer default 20
) returns table (face_id uuid, profile_id uuid, similarity double precision, image_url text)
language sql stable as $$
    with sought as (select l2_normalize(query_embedding) as direction),
    candidates as materialized (
        select id, user_id, least(-(faces.direction <#> sought.direction), 1) as similarity, image_url
        from sought
        cross join (
            -- once for each face: each use of a stored vector fetches it from its table again
            select id, user_id, image_url, l2_normalize(embedding) as direction
            from faces_of_block(user_school, opposite_gender(user_gender))
            offset 0
        ) as faces
        -- a vector of zeros has no direction, and is like nothing
        where sought.direction <#> sought.direction < -0.5 and faces.direction <#> faces.direction < -0.5
    )
    select id, user_id, candidates.similarity, candidates.image_url from candidates
    where candidates.similarity >= match_threshold
    order by candidates.similarity desc, id
    limit greatest(coalesce(match_count, 20), 0)
$$;

create or replace function enqueue_faces(ids uuid[]) returns integer
language sql as $$
    select enqueue_jobs('faces', 'face', array(select id from faces where id = any (ids) and embedding is not null))
$$;

create or replace function enqueue_faces_of(users uuid[]) returns integer
language sql as $$
    select enqueue_jobs('faces', 'face', array(select id from faces where user_id = any (users) and embedding is not null))
$$;

-- Deletes all jobs of these faces, also completed and failed ones. An erasure must be certain: where a worker has locked
-- the row, this function waits, and the worker gives way.
create or replace function forget_face_jobs(ids uuid[]) returns void
language sql as $$
    delete from job_queue where entity_id = any (ids) and queue = 'faces' and entity_kind = 'face'
$$;

create or replace function forget_face_matches(ids uuid[]) returns void
language sql as $$
    delete from matches where face_a_id = any (ids);
    delete from matches where face_b_id = any (ids);
$$;

create or replace function faces_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    blinded uuid[];
begin
    if tg_op = 'INSERT' then
        perform enqueue_jobs('faces', 'face', array(select id from new_rows where embedding is not null));
    elsif tg_op = 'DELETE' then
        perform forget_face_jobs(array(select id from old_rows));
    elsif tg_op = 'TRUNCATE' then
        delete from job_queue where queue = 'faces';
    else
        perform forget_face_jobs(array_agg(old_rows.id))
        from old_rows left join new_rows on new_rows.id = old_rows.id where new_rows.id is null;

        perform enqueue_jobs('faces', 'face', array(
            select new_rows.id from new_rows
            left join old_rows on old_rows.id = new_rows.id
            where new_rows.embedding is not null
              and (old_rows.embedding is distinct from new_rows.embedding or old_rows.user_id is distinct from new_rows.user_id)
        ));
        blinded := array(
            select old_rows.id from old_rows join new_rows on new_rows.id = old_rows.id
            where old_rows.embedding is not null and new_rows.embedding is null
        );
        perform forget_face_jobs(blinded), forget_face_matches(blinded);
        -- a worker that read the embedding before may be writing its pairs: this job removes them afterwards
        perform enqueue_jobs('faces', 'face', blinded);
    end if;
    return null;
end
$$;

-- A pair holds the ids of its faces in order, which a cascade could not keep.
create or replace function face_renamed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    perform forget_face_matches(array[old.id]);
    return new;
end
$$;

create or replace function profiles_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    lost uuid[];
begin
    if tg_op = 'INSERT' then
        -- where the app has no foreign key, faces may come before their profile
        perform enqueue_faces_of(array(select id from new_rows));
    elsif tg_op = 'TRUNCATE' then
        delete from matches where kind = 'face';
        delete from job_queue where queue = 'faces';
    else
        if tg_op = 'UPDATE' then
            perform enqueue_faces_of(array(
                select new_rows.id from new_rows
                left join old_rows on old_rows.id = new_rows.id
                where (old_rows.school::text, old_rows.gender::text, old_rows.profile_type::text)
                    is distinct from (new_rows.school::text, new_rows.gender::text, new_rows.profile_type::text)
            ));
            lost := array(select old_rows.id from old_rows left join new_rows on new_rows.id = old_rows.id where new_rows.id is null);
        else
            lost := array(select id from old_rows);
        end if;
        -- where the app has a foreign key, their faces are gone already
        lost := array(select id from faces where user_id = any (lost));
        perform forget_face_jobs(lost), forget_face_matches(lost);
        perform enqueue_faces(lost);
    end if;
    return null;
end
$$;

select watch_changes('faces'), watch_changes('profiles');

create or replace trigger matching_pipeline_rename before update of id on faces
    for each row when (old.id is distinct from new.id) execute function face_renamed();

-- The field's queue of faces. An app that inserts into it adds one more job at most.
create or replace view match_jobs with (security_invoker = true) as
    select job_queue.id, job_queue.entity_id as face_id, faces.user_id, faces.embedding, job_queue.status,
        job_queue.attempts - job_queue.snoozes as attempts, job_queue.max_attempts, job_queue.error_message,
        job_queue.created_at, job_queue.started_at, job_queue.completed_at
    from job_queue
    left join faces on faces.id = job_queue.entity_id
    where job_queue.queue = 'faces';

create or replace function match_jobs_written() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
declare
    face faces;
    owed job_queue;
begin
    if tg_op = 'DELETE' then
        delete from job_queue where id = old.id;
        return old;
    end if;
    if tg_op = 'UPDATE' then
        if old.status = 'failed' and new.status = 'pending' then
            perform retry_jobs('faces', array[old.id]);
        elsif new is distinct from old then
            raise exception 'match_jobs: of a job only its status can be changed, from failed to pending, which retries it'
                using errcode = 'feature_not_supported';
        end if;
        return new;
    end if;
    select * into face from faces where id = new.face_id;
    if not found then
        raise exception 'match_jobs: there is no face %', new.face_id using errcode = 'foreign_key_violation';
    end if;
    perform enqueue_jobs('faces', 'face', array[face.id]);
    select * into owed from job_queue
    where entity_id = face.id and queue = 'faces' and entity_kind = 'face' and status = 'pending'
    order by created_at desc limit 1;
    new.id := owed.id;
    new.user_id := face.user_id;
    new.embedding := face.embedding;
    new.status := owed.status;
    new.attempts := owed.attempts - owed.snoozes;
    new.max_attempts := owed.max_attempts;
    new.error_message := null;
    new.created_at := owed.created_at;
    return new;
end
$$;

create or replace trigger matching_pipeline_write instead of insert or update or delete on match_jobs
    for each row execute function match_jobs_written();
