-- Announces new pairs to listeners: on the channel `matches`, and by Supabase Realtime where it is there.

-- One message a statement and matcher: how many pairs are new, and the ids of the best. A message is at most 8000 bytes, and of
-- two that are equal in one transaction Postgres sends one: that is why it always names pairs.
create or replace function matches_announced() returns trigger
language plpgsql set search_path from current as $$
begin
    if coalesce(current_setting('matching_pipeline.notify', true), '') <> 'off' then
        perform pg_notify('matches', jsonb_build_object('matcher', matcher, 'pairs', count(*), 'ids', array(
            select id from new_rows as best where best.matcher = new_rows.matcher order by similarity desc, id limit 100
        ))::text)
        from new_rows group by matcher;
    end if;
    return null;
end
$$;

create or replace trigger matches_announce after insert on matches
    referencing new table as new_rows for each statement execute function matches_announced();

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime')
       -- by name, with its schema, or as all tables are
       and not exists (
           select from pg_publication_tables
           where pubname = 'supabase_realtime' and schemaname = 'matching_pipeline' and tablename = 'matches'
       )
    then
        alter publication supabase_realtime add table matches;
    end if;
exception when insufficient_privilege then
    raise warning 'matches is not published by supabase_realtime: only the owner of the publication can add it';
end
$$;
