-- A job board.

create table if not exists public.jobs (
    id uuid constraint jobs_pkey primary key default gen_random_uuid(),
    title text,
    company text,
    description text,
    is_active boolean not null default true
);
