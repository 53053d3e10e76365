-- Pauses: no worker claims jobs of a paused queue, wherever it runs. A worker finishes the jobs that it claimed before the pause.

-- The end of the queue's pause: `infinity` if it lasts until the queue is resumed, null if the queue is not paused. Runs with its owner's rights,
-- since each claim calls it.
create or replace function paused_until(queue_name text) returns timestamptz
language plpgsql stable security definer set search_path from current as $$
begin
    return (select pause_end from pauses where queue = queue_name and pause_end > now());
end
$$;

-- Pauses the queue: no worker claims its jobs until the pause ends. Replaces an earlier pause of the queue.
create or replace function pause_queue(queue_name text, pause_end timestamptz default 'infinity', paused_by text default session_user)
returns void
language plpgsql set search_path from current as $$
declare
    names text[] := array(select unnest(array[name, name || '_shadow']) from queues order by 1);
begin
    if queue_name is null or queue_name <> all (names) then
        raise exception 'there is no queue %, only %', coalesce(queue_name, 'null'), array_to_string(names, ', ')
            using errcode = 'invalid_parameter_value';
    elsif pause_end is null or pause_end <= now() then
        raise exception 'a pause until % is over already', coalesce(pause_end::text, 'null') using errcode = 'invalid_parameter_value';
    end if;
    insert into pauses (queue, pause_end, paused_by)
    values (queue_name, pause_queue.pause_end, coalesce(pause_queue.paused_by, session_user))
    on conflict on constraint pauses_pkey do update
        set pause_end = excluded.pause_end, paused_by = excluded.paused_by, paused_at = now();
end
$$;

-- Ends the pause of the queue, and wakes its workers; returns whether it was paused.
create or replace function resume_queue(queue_name text) returns boolean
language plpgsql set search_path from current as $$
declare
    was_paused boolean := paused_until(queue_name) is not null;
begin
    delete from pauses where queue = queue_name;
    perform announce_jobs(queue_name);
    return was_paused;
end
$$;
