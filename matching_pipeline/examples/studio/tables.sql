-- A studio for product photos.

create table if not exists public.projects (
    id uuid constraint projects_pkey primary key default gen_random_uuid(),
    source_image_url text,
    status text not null default 'PENDING'
        constraint projects_status_allowed check (status in ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED'))
);
