-- A face-match app: users of schools, and the faces on their photos, which the app embeds itself.

create table if not exists public.profiles (
    id uuid constraint profiles_pkey primary key default gen_random_uuid(),
    school text,
    gender text,
    profile_type text not null default 'user'
);

create table if not exists public.faces (
    id uuid constraint faces_pkey primary key default gen_random_uuid(),
    user_id uuid not null constraint faces_user_id_fkey references public.profiles (id) on delete cascade on update cascade,
    image_url text,
    embedding vector(512)
);

create index if not exists idx_profiles_school_gender on public.profiles (school, gender) where profile_type = 'user';
create index if not exists faces_user_id_idx on public.faces (user_id);

-- The app's own table of matches. The marketplace has its matches in it too.
create table if not exists public.matches (
    id uuid constraint matches_pkey primary key default gen_random_uuid(),
    similarity double precision,
    model text,
    computed_at timestamptz,
    created_at timestamptz not null default now()
);
alter table public.matches
    add column if not exists face_a_id uuid,
    add column if not exists face_b_id uuid,
    add column if not exists rank_for_a integer,
    add column if not exists rank_for_b integer;
create unique index if not exists matches_faces_key on public.matches (face_a_id, face_b_id);
create index if not exists matches_face_b_id_idx on public.matches (face_b_id);
alter table public.matches enable row level security;

-- A signed-in user sees the matches of their own faces, and so does Realtime for them.
do $$
begin
    if not exists (select from pg_policy where polrelid = 'public.matches'::regclass and polname = 'matches_of_own_faces') then
        create policy matches_of_own_faces on public.matches for select using (
            face_a_id = any (array(
                select id from public.faces where user_id::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
            ))
            or face_b_id = any (array(
                select id from public.faces where user_id::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
            ))
        );
    end if;
    if exists (select from pg_publication where pubname = 'supabase_realtime') and not exists (
        select from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'matches'
    ) then
        alter publication supabase_realtime add table public.matches;
    end if;
    if to_regrole('authenticated') is not null then
        grant select on public.matches to authenticated;
    end if;
end
$$;
