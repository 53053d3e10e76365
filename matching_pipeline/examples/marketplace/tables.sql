-- A marketplace of projects and products, each with a gallery.

create table if not exists public.listings (
    id uuid constraint listings_pkey primary key default gen_random_uuid(),
    type text not null
);

create table if not exists public.listing_images (
    id uuid constraint listing_images_pkey primary key default gen_random_uuid(),
    listing_id uuid not null constraint listing_images_listing_id_fkey
        references public.listings (id) on delete cascade on update cascade,
    image_url text
);

create table if not exists public.products (
    id uuid constraint products_pkey primary key default gen_random_uuid()
);

create table if not exists public.product_images (
    id uuid constraint product_images_pkey primary key default gen_random_uuid(),
    product_id uuid not null constraint product_images_product_id_fkey
        references public.products (id) on delete cascade on update cascade,
    src text
);

create index if not exists listing_images_listing_id_idx on public.listing_images (listing_id);
create index if not exists product_images_product_id_idx on public.product_images (product_id);

-- The app's own table of matches. The face-match app has its matches in it too.
create table if not exists public.matches (
    id uuid constraint matches_pkey primary key default gen_random_uuid(),
    similarity double precision,
    model text,
    computed_at timestamptz,
    created_at timestamptz not null default now()
);
alter table public.matches
    add column if not exists project_id uuid,
    add column if not exists product_id uuid,
    add column if not exists project_image_id uuid,
    add column if not exists product_image_id uuid,
    add column if not exists rank integer;
create unique index if not exists matches_project_product_key on public.matches (project_id, product_id);
create index if not exists matches_product_id_idx on public.matches (product_id);
-- a project has no user here: a policy of the app says who may see its matches
alter table public.matches enable row level security;
