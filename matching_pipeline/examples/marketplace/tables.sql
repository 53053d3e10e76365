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
