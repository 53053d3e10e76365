-- Records which entities changed. A worker keeps the images of some groups of entities (blocks) in memory, and reads these
-- records to update them: matching_pipeline/matches/holding.py. A trigger that writes a record waits for no other session.

-- The last two bytes of an id. They name an erased entity well enough, and the id itself leaves no trace.
create or replace function id_tail(id uuid) returns integer
language sql immutable return ('x' || right(id::text, 4))::bit(16)::integer;

-- A record without `entity` and `tail` says that any entity of the source may have changed.
create or replace function record_changes() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if tg_op = 'TRUNCATE' then
        insert into entity_changes (source) select name from sources;
    elsif tg_table_name = 'entities' and tg_op = 'DELETE' then
        -- earlier records hold the whole id
        delete from entity_changes where ctid = any (array(
            select entity_changes.ctid from entity_changes
            join old_rows on old_rows.source = entity_changes.source and old_rows.id = entity_changes.entity
            for update of entity_changes skip locked
        ));
        insert into entity_changes (source, tail) select distinct source, id_tail(id) from old_rows;
    elsif tg_table_name = 'entities' then
        insert into entity_changes (source, entity) select source, id from new_rows where tg_op = 'UPDATE' or embedding is not null;
    elsif tg_table_name = 'items' then
        insert into entity_changes (source, tail) select distinct source, id_tail(entity) from old_rows;
        if tg_op = 'UPDATE' then
            insert into entity_changes (source, entity) select distinct source, entity from new_rows;
        end if;
    elsif tg_op = 'DELETE' then
        -- if the item was deleted too, the join finds nothing: the trigger on `items` has recorded the entity
        insert into entity_changes (source, tail)
        select distinct items.source, id_tail(items.entity)
        from old_rows join items on items.source = old_rows.source and items.id = old_rows.item;
    else
        insert into entity_changes (source, entity)
        select distinct items.source, items.entity
        from new_rows join items on items.source = new_rows.source and items.id = new_rows.item;
    end if;
    return null;
end
$$;

create or replace trigger entities_insert_recorded after insert on entities
    referencing new table as new_rows for each statement execute function record_changes();
create or replace trigger entities_update_recorded after update on entities
    referencing new table as new_rows for each statement execute function record_changes();
create or replace trigger entities_delete_recorded after delete on entities
    referencing old table as old_rows for each statement execute function record_changes();
create or replace trigger entities_truncate_recorded after truncate on entities for each statement execute function record_changes();
create or replace trigger items_update_recorded after update on items
    referencing old table as old_rows new table as new_rows for each statement execute function record_changes();
create or replace trigger items_delete_recorded after delete on items
    referencing old table as old_rows for each statement execute function record_changes();
create or replace trigger items_truncate_recorded after truncate on items for each statement execute function record_changes();
create or replace trigger embeddings_insert_recorded after insert on embeddings
    referencing new table as new_rows for each statement execute function record_changes();
create or replace trigger embeddings_update_recorded after update on embeddings
    referencing new table as new_rows for each statement execute function record_changes();
create or replace trigger embeddings_delete_recorded after delete on embeddings
    referencing old table as old_rows for each statement execute function record_changes();
create or replace trigger embeddings_truncate_recorded after truncate on embeddings for each statement execute function record_changes();

-- They also run if `session_replication_role` is `replica`, as in a restore.
do $$
declare
    recording record;
begin
    for recording in
        select tgrelid::regclass as "table", tgname from pg_trigger
        where tgfoid = 'record_changes()'::regprocedure and tgenabled <> 'A'
    loop
        execute format('alter table %s enable always trigger %I', recording."table", recording.tgname);
    end loop;
end
$$;
