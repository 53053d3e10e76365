-- What must be matched again when an input of `matches` changes.

create or replace function skips_matching() returns boolean
language sql stable set search_path from current as $$
    select coalesce(current_setting('matching_pipeline.skip_matching', true), '') = 'on'
$$;

-- Whether the entities of this source of the matcher keep lists.
create or replace function keeps_lists(matcher matchers, source_name text) returns boolean
language sql immutable set search_path from current as $$
    select source_name = matcher.left_source
        or (source_name = matcher.right_source and matcher.declaration ->> 'lists' = 'both')
$$;

create or replace function source_modality(source_name text) returns text
language sql stable set search_path from current as $$
    select case
        when declaration ->> 'vector' is not null then 'vector'
        when jsonb_array_length(declaration -> 'text') > 0 then 'text'
        else 'image'
    end
    from sources where name = source_name
$$;

-- The model whose embeddings of the source are matched; null before the first. Vectors of the app's have a model for each source.
create or replace function source_model(source_name text) returns text
language sql stable set search_path from current as $$
    select name from embedding_models
    where status = 'active' and modality = source_modality(source_name) and (modality <> 'vector' or name = source_name)
$$;

-- The model in the row of `match_settings` that counts for matchers with this left source.
create or replace function settings_model(source_name text) returns text
language sql stable set search_path from current as $$
    select coalesce(source_model(source_name), case source_modality(source_name) when 'vector' then source_name else '' end)
$$;

-- Whether some item of the entity is embedded by the model.
create or replace function has_embedding(source_name text, entity_id uuid, model_name text) returns boolean
language sql stable set search_path from current as $$
    select exists (
        select from embedded_items where source = source_name and entity = entity_id and model = model_name
    )
$$;

-- Gives a matcher its first settings, those of the declaration, for the models that have none.
create or replace function give_first_settings(matcher_name text) returns void
language sql set search_path from current as $$
    insert into match_settings (matcher, model, threshold, top, attribute_weight)
    select matchers.name, models.name, (declaration ->> 'threshold')::double precision, (declaration ->> 'top')::integer,
        (declaration ->> 'attribute_weight')::double precision
    from matchers
    cross join lateral (select source_modality(left_source) as modality) as left_side
    cross join lateral (
        select left_source where left_side.modality = 'vector'
        union
        select embedding_models.name from embedding_models
        where embedding_models.modality = left_side.modality and left_side.modality <> 'vector' and status in ('active', 'shadow')
        union
        select '' where left_side.modality <> 'vector'
          and not exists (select from embedding_models where embedding_models.modality = left_side.modality)
    ) as models (name)
    where matchers.name = matcher_name
    on conflict do nothing
$$;

-- A new model gets settings too. The first one takes those that a matcher had before.
create or replace function models_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    update match_settings set model = new.name
    from matchers
    where matchers.name = match_settings.matcher and source_modality(left_source) = new.modality and model = '';
    perform give_first_settings(name) from matchers where source_modality(left_source) = new.modality;
    return null;
end
$$;

create or replace trigger embedding_models_settings after insert or update of status on embedding_models
    for each row when (new.status in ('active', 'shadow') and new.modality <> 'vector') execute function models_changed();

-- Enqueues every entity that keeps a list.
create or replace function enqueue_all_for_matching(matcher_name text) returns integer
language sql set search_path from current as $$
    select coalesce(sum(enqueue_jobs(matchers.queue, sources.name, 'entity', array(
        select key from entities where source = sources.name
    ))), 0)::integer
    from matchers join sources on keeps_lists(matchers, sources.name)
    where matchers.name = matcher_name
$$;

create or replace function enqueue_for_matcher(matcher_name text, source_name text, ids uuid[]) returns integer
language sql set search_path from current as $$
    select enqueue_jobs(matchers.queue, source_name, 'entity', array(
        select key from entities where source = source_name and id = any (ids)
    ))
    from matchers where matchers.name = matcher_name
$$;

-- A transaction that writes the lists itself sets `matching_pipeline.skip_matching`: its other changes enqueue no matching.
create or replace function embeddings_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching(name) from matchers;
    elsif tg_op = 'DELETE' then
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from old_rows
        join items on items.source = old_rows.source and items.id = old_rows.item
        join embedding_models on embedding_models.name = old_rows.model and embedding_models.status = 'active'
        group by items.source;
    elsif tg_op = 'INSERT' then
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from new_rows
        join items on items.source = new_rows.source and items.id = new_rows.item
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        group by items.source;
    else
        perform enqueue_for_matchers(items.source, array_agg(distinct items.entity))
        from new_rows
        join items on items.source = new_rows.source and items.id = new_rows.item
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        left join old_rows on old_rows.source = new_rows.source and old_rows.item = new_rows.item and old_rows.model = new_rows.model
        where (old_rows.embedding, old_rows.more, old_rows.halves, old_rows.attributes)
            is distinct from (new_rows.embedding, new_rows.more, new_rows.halves, new_rows.attributes)
        group by items.source;
    end if;
    return null;
end
$$;

create or replace function entities_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'INSERT' then
        perform enqueue_for_matchers(source, array_agg(id)) from new_rows where embedding is not null group by source;
    else
        perform enqueue_for_matchers(new_rows.source, array_agg(new_rows.id))
        from new_rows
        join old_rows on old_rows.source = new_rows.source and old_rows.id = new_rows.id
        where (old_rows.properties, old_rows.user_key, old_rows.embedding) is distinct from (new_rows.properties, new_rows.user_key, new_rows.embedding)
        group by new_rows.source;
    end if;
    return null;
end
$$;

-- An item that moved to another entity changes the lists of both.
create or replace function items_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if not skips_matching() then
        perform enqueue_for_matchers(source, array_agg(distinct entity))
        from (
            select new_rows.source, unnest(array[old_rows.entity, new_rows.entity]) as entity
            from new_rows
            join old_rows on old_rows.source = new_rows.source and old_rows.id = new_rows.id
            where old_rows.entity <> new_rows.entity
        ) as moved
        group by source;
    end if;
    return null;
end
$$;

-- A pair that was lost leaves room, so the lists that had it are computed again.
create or replace function matches_lost() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if skips_matching() then
        return null;
    elsif tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching(name) from matchers;
    else
        perform enqueue_jobs(matchers.queue, source, 'entity', array_agg(distinct key))
        from (
            select matcher, left_key as key, true as is_left from old_rows where left_rank is not null
            union
            select matcher, right_key, false from old_rows where right_rank is not null
        ) as listing
        join matchers on matchers.name = listing.matcher
        cross join lateral (values (case when is_left then left_source else right_source end)) as side (source)
        -- an entity that is gone has nothing to match
        where exists (select from entities where entities.source = side.source and entities.id = key_id(listing.key))
        group by matchers.queue, source;
    end if;
    return null;
end
$$;

create or replace function match_settings_changed() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    perform enqueue_all_for_matching(new_rows.matcher)
    from new_rows
    join old_rows using (matcher, model)
    join matchers on matchers.name = new_rows.matcher and settings_model(left_source) = new_rows.model;
    return null;
end
$$;

create or replace trigger embeddings_insert after insert on embeddings
    referencing new table as new_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_update after update on embeddings
    referencing old table as old_rows new table as new_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_delete after delete on embeddings
    referencing old table as old_rows for each statement execute function embeddings_changed();
create or replace trigger embeddings_truncate after truncate on embeddings
    for each statement execute function embeddings_changed();
create or replace trigger entities_insert after insert on entities
    referencing new table as new_rows for each statement execute function entities_changed();
create or replace trigger entities_update after update on entities
    referencing old table as old_rows new table as new_rows for each statement execute function entities_changed();
create or replace trigger items_update after update on items
    referencing old table as old_rows new table as new_rows for each statement execute function items_changed();
create or replace trigger matches_delete after delete on matches
    referencing old table as old_rows for each statement execute function matches_lost();
create or replace trigger matches_truncate after truncate on matches
    for each statement execute function matches_lost();

-- If the rule of a matcher changes, every entity is matched again.
create or replace function matchers_changed() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    of_the_rule text[] := array['left', 'right', 'same', 'opposite', 'lists', 'never_same', 'except'];
begin
    perform enqueue_all_for_matching(new_rows.name)
    from new_rows
    join old_rows on old_rows.name = new_rows.name
    where (select jsonb_object_agg(key, value) from jsonb_each(old_rows.declaration) where key = any (of_the_rule))
        is distinct from (select jsonb_object_agg(key, value) from jsonb_each(new_rows.declaration) where key = any (of_the_rule));
    return null;
end
$$;

create or replace trigger matchers_update after update on matchers
    referencing old table as old_rows new table as new_rows for each statement execute function matchers_changed();
create or replace trigger match_settings_update after update on match_settings
    referencing old table as old_rows new table as new_rows for each statement execute function match_settings_changed();
