-- Faces of the app's users: the app's tables, their place in `matches`, and what the pipeline adds to find them.

-- Raises where a table of the app's exists and a column that the pipeline reads does not fit: {table, column, what is needed}.
create function require_app_columns(needed text[]) returns void
language plpgsql as $$
declare
    problems text;
begin
    select string_agg(
        format('column %I.%I %s (%s is needed)', wanted.table_name, wanted.column_name, case
            when found.type_name is null then 'is missing'
            when not found.fits then 'is ' || found.type_name
            else 'is not unique'
        end, wanted.kind), E'\n' order by wanted.table_name, wanted.column_name)
    into problems
    from (
        select needed[number][1] as table_name, needed[number][2] as column_name, needed[number][3] as kind
        from generate_subscripts(needed, 1) as number
    ) as wanted
    left join lateral (
        select format_type(pg_type.oid, atttypmod) as type_name,
            case
                -- an enumeration serves as well as text: it is only compared and read as text
                when wanted.kind = 'text' then pg_type.typcategory in ('S', 'E')
                when wanted.kind like 'vector%' then pg_type.oid = 'vector'::regtype and atttypmod > 0
                else pg_type.oid = split_part(wanted.kind, ' ', 1)::regtype
            end as fits,
            wanted.kind not like '% primary key' or exists (
                select from pg_index
                where indrelid = attrelid and indisunique and indimmediate and indpred is null
                  and indnkeyatts = 1 and indkey[0] = attnum
            ) as unique_enough
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = to_regclass(wanted.table_name) and attname = wanted.column_name and not attisdropped
    ) as found on true
    where to_regclass(wanted.table_name) is not null
      and (found.type_name is null or not found.fits or not found.unique_enough);
    if problems is not null then
        raise exception E'the app''s tables do not fit the pipeline:\n%', problems
            using errcode = 'datatype_mismatch', hint = 'Add or convert the columns named above, then migrate again.';
    end if;
end
$$;

select require_app_columns(array[
    ['profiles', 'id', 'uuid primary key'], ['profiles', 'school', 'text'], ['profiles', 'gender', 'text'],
    ['profiles', 'profile_type', 'text'],
    ['faces', 'id', 'uuid primary key'], ['faces', 'user_id', 'uuid'], ['faces', 'image_url', 'text'],
    ['faces', 'embedding', 'vector(512), or of other dimensions,']
]);

do $$
begin
    if to_regprocedure('l2_normalize(vector)') is null then
        raise exception 'pgvector is too old: 0.7 or later is needed'
            using hint = 'Install it, run `alter extension vector update`, then migrate again.';
    end if;
end
$$;

create table if not exists profiles (
    id uuid constraint profiles_pkey primary key default gen_random_uuid(),
    school text,
    gender text,
    profile_type text not null default 'user'
);

create table if not exists faces (
    id uuid constraint faces_pkey primary key default gen_random_uuid(),
    user_id uuid not null constraint faces_user_id_fkey references profiles (id) on delete cascade on update cascade,
    image_url text,
    embedding vector(512)
);

create index if not exists idx_profiles_school_gender on profiles (school, gender) where profile_type = 'user';
create index if not exists faces_user_id_idx on faces (user_id);

alter table embedding_models
    drop constraint embedding_models_modality_allowed,
    add constraint embedding_models_modality_allowed check (modality in ('image', 'text', 'face'));
-- The app embeds faces itself; its model has this name here, whichever it is.
insert into embedding_models (name, modality, dimensions, status)
select 'faces', 'face', atttypmod, 'active' from pg_attribute
where attrelid = 'faces'::regclass and attname = 'embedding';

alter table match_settings
    drop constraint match_settings_kind_allowed,
    add constraint match_settings_kind_allowed check (kind in ('project', 'face')),
    add constraint match_settings_face_weight_zero check (kind <> 'face' or attribute_weight = 0);
insert into match_settings (kind, attribute_weight) values ('face', 0);

alter table matches
    add column face_a_id uuid constraint matches_face_a_id_fkey references faces (id) on delete cascade,
    add column face_b_id uuid constraint matches_face_b_id_fkey references faces (id) on delete cascade,
    add column rank_for_a integer,
    add column rank_for_b integer,
    drop constraint matches_kind_allowed,
    drop constraint matches_project_columns_set,
    add constraint matches_kind_allowed check (kind in ('project', 'face')),
    add constraint matches_project_columns_set check (
        num_nonnulls(project_id, product_id, project_image_id, product_image_id, rank) = case kind when 'project' then 5 else 0 end
    ),
    add constraint matches_face_columns_set check (
        num_nonnulls(face_a_id, face_b_id) = case kind when 'face' then 2 else 0 end
        and (num_nonnulls(rank_for_a, rank_for_b) > 0) = (kind = 'face')
    ),
    add constraint matches_face_order check (face_a_id < face_b_id),
    add constraint matches_face_ranks_positive check (rank_for_a > 0 and rank_for_b > 0);
comment on column matches.rank_for_a is 'the place of face_b in the list of face_a, null where it has none';
comment on column matches.rank_for_b is 'the place of face_a in the list of face_b, null where it has none';

-- A cascade from a face finds its rows by these: of `kind` it knows nothing.
create unique index matches_face_a_face_b_key on matches (face_a_id, face_b_id) where face_a_id is not null;
create index matches_face_b_id_idx on matches (face_b_id) where face_b_id is not null;

-- It has another parameter now, which `create or replace` refuses.
drop function if exists enqueue_all_for_matching(text);

insert into matching_pipeline_migrations (name) values ('0005_faces');
