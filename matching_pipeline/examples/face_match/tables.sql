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
