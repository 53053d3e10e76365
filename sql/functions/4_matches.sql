-- What must be matched again when an input of `matches` changes.

-- Every project, product or face.
create or replace function enqueue_all_for_matching(kind text) returns integer
language sql as $$
    select case when kind = 'face'
        then enqueue_jobs('faces', kind, array(select id from faces where embedding is not null))
        else enqueue_jobs('matches', kind, array(select id from image_owners where source = kind))
    end
$$;

create or replace function image_ai_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching('project');
    elsif tg_op = 'DELETE' then
        perform enqueue_jobs('matches', source_images.source, array_agg(source_images.owner_id))
        from source_images
        join old_rows on old_rows.source = source_images.source and old_rows.image_id = source_images.image_id
        join embedding_models on embedding_models.name = old_rows.model and embedding_models.status = 'active'
        group by source_images.source;
    elsif tg_op = 'INSERT' then
        perform enqueue_jobs('matches', source_images.source, array_agg(source_images.owner_id))
        from source_images
        join new_rows on new_rows.source = source_images.source and new_rows.image_id = source_images.image_id
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        group by source_images.source;
    else
        perform enqueue_jobs('matches', source_images.source, array_agg(source_images.owner_id))
        from source_images
        join new_rows on new_rows.source = source_images.source and new_rows.image_id = source_images.image_id
        join embedding_models on embedding_models.name = new_rows.model and embedding_models.status = 'active'
        left join old_rows on old_rows.source = new_rows.source and old_rows.image_id = new_rows.image_id
            and old_rows.model = new_rows.model
        where (old_rows.embedding, old_rows.attributes) is distinct from (new_rows.embedding, new_rows.attributes)
        group by source_images.source;
    end if;
    return null;
end
$$;

-- A pair that was lost by a cascade or by hand leaves room: its project's or faces' lists are filled again. The
-- pipeline's own writes keep the lists whole, and announce that by the setting.
create or replace function matches_lost() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    if current_setting('matching_pipeline.publishing', true) = 'on' then
        return null;
    elsif tg_op = 'TRUNCATE' then
        perform enqueue_all_for_matching('project'), enqueue_all_for_matching('face');
    else
        perform enqueue_jobs('matches', 'project', array(
            select distinct listings.id from listings join old_rows on old_rows.project_id = listings.id
        ));
        perform enqueue_faces(array(
            select face_a_id from old_rows where rank_for_a is not null
            union
            select face_b_id from old_rows where rank_for_b is not null
        ));
    end if;
    return null;
end
$$;

create or replace function match_settings_changed() returns trigger
language plpgsql security definer set search_path = public, extensions, pg_temp as $$
begin
    perform enqueue_all_for_matching(kind) from new_rows;
    return null;
end
$$;

select watch_changes('image_ai');

create or replace trigger matching_pipeline_delete after delete on matches
    referencing old table as old_rows for each statement execute function matches_lost();
create or replace trigger matching_pipeline_truncate after truncate on matches
    for each statement execute function matches_lost();

create or replace trigger matching_pipeline_update after update on match_settings
    referencing new table as new_rows for each statement execute function match_settings_changed();

-- Ranges of project ids that cover them all, also those to come, with so many projects each.
create or replace function project_shards(size integer)
returns table (place integer, entities bigint, first_project uuid, before_project uuid)
language sql stable as $$
    with listed as (
        select owner_id as id from source_images where source = 'project'
        union
        select project_id from matches where kind = 'project'
    ), bounded as (
        -- null is before the first id, so that a later project is in some shard, even where there is none yet
        select null::uuid as id
        union all
        select id from listed
    ), placed as (
        select id, ntile(greatest(1, (select (count(*) + size - 1) / size from listed))::integer)
            over (order by id nulls first) as place
        from bounded
    )
    select place, count(id), (array_agg(id order by id nulls first))[1],
        lead((array_agg(id order by id nulls first))[1]) over (order by place)
    from placed
    group by place
$$;
