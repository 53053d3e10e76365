-- Who listens hears of new pairs: on the channel `matches`, and by Supabase Realtime where it is there.

-- One message a statement: how many pairs of each kind are new and, as long as the message stays short, their ids.
create or replace function matches_announced() returns trigger
language plpgsql as $$
begin
    perform pg_notify('matches', jsonb_build_object(
        'kind', kind, 'pairs', count(*),
        'ids', case when count(*) <= 100 then jsonb_agg(id order by similarity desc, id) end
    )::text)
    from new_rows group by kind;
    return null;
end
$$;

create or replace trigger matching_pipeline_announce after insert on matches
    referencing new table as new_rows for each statement execute function matches_announced();

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables)
       and not exists (
           select from pg_publication_rel
           join pg_publication on pg_publication.oid = prpubid
           where pubname = 'supabase_realtime' and prrelid = 'matches'::regclass
       )
    then
        alter publication supabase_realtime add table matches;
    end if;
exception when insufficient_privilege then
    raise warning 'matches is not published by supabase_realtime: only the owner of the publication can add it';
end
$$;
