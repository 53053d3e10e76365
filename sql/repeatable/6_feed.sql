-- Announces new pairs to listeners: on the channel `matches`, and by Supabase Realtime if it is there.

-- Sends one message for each statement and matcher: the number of new pairs, and the ids of the best 100. A message has at most 8000 bytes. Postgres
-- sends only one of two equal messages of a transaction, so a message always has ids.
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

-- Makes Supabase Realtime broadcast `matches`, unless a matcher publishes its pairs into a table of the app: then apps subscribe to that table.
create or replace function join_realtime() returns void
language plpgsql set search_path from current as $$
declare
    is_wanted boolean := not exists (select from publications);
    -- by name, or with its schema
    is_named boolean := exists (
        select from pg_publication join pg_publication_rel on prpubid = pg_publication.oid
        where pubname = 'supabase_realtime' and prrelid = 'matches'::regclass
    );
begin
    if is_wanted and exists (select from pg_publication where pubname = 'supabase_realtime')
       -- `for all tables`
       and not exists (
           select from pg_publication_tables
           where pubname = 'supabase_realtime' and schemaname = 'matching_pipeline' and tablename = 'matches'
       )
    then
        alter publication supabase_realtime add table matches;
    elsif is_named and exists (select from publications) then
        alter publication supabase_realtime drop table matches;
    end if;
exception when insufficient_privilege then
    raise warning 'matches is % by supabase_realtime: only the owner of the publication can change that',
        case when is_wanted then 'not published' else 'published' end;
end
$$;

do $$
begin
    perform join_realtime();
end
$$;
