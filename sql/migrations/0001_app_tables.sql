-- The app's tables. They are the app's own: existing tables are left as they are, and only missing tables are created.
-- The columns that the pipeline reads are checked by name and type.

create extension if not exists vector;

create table if not exists matching_pipeline_migrations (
    name text constraint matching_pipeline_migrations_pkey primary key,
    applied_at timestamptz not null default now()
);
alter table matching_pipeline_migrations enable row level security;

do $$
declare
    problems text;
begin
    select string_agg(
        format('column %I.%I %s (%s is needed)', needed.table_name, needed.column_name, case
            when found.type_name is null then 'is missing'
            when not found.fits then 'is ' || found.type_name
            else 'is not unique'
        end, needed.kind), E'\n' order by needed.table_name, needed.column_name)
    into problems
    from (values
        ('listings', 'id', 'uuid primary key'), ('listings', 'type', 'text'),
        ('listing_images', 'id', 'uuid primary key'), ('listing_images', 'listing_id', 'uuid'), ('listing_images', 'image_url', 'text'),
        ('products', 'id', 'uuid primary key'),
        ('product_images', 'id', 'uuid primary key'), ('product_images', 'product_id', 'uuid'), ('product_images', 'src', 'text')
    ) as needed (table_name, column_name, kind)
    left join lateral (
        select format_type(pg_type.oid, null) as type_name,
            case needed.kind
                -- an enumeration serves as well as text: it is only compared and read as text
                when 'text' then pg_type.typcategory in ('S', 'E')
                else pg_type.oid = 'uuid'::regtype
            end as fits,
            needed.kind <> 'uuid primary key' or exists (
                select from pg_index
                where indrelid = attrelid and indisunique and indimmediate and indpred is null
                  and indnkeyatts = 1 and indkey[0] = attnum
            ) as unique_enough
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = to_regclass(needed.table_name) and attname = needed.column_name and not attisdropped
    ) as found on true
    where to_regclass(needed.table_name) is not null
      and (found.type_name is null or not found.fits or not found.unique_enough);
    if problems is not null then
        raise exception E'the app''s tables do not fit the pipeline:\n%', problems
            using errcode = 'datatype_mismatch', hint = 'Add or convert the columns named above, then migrate again.';
    end if;
end
$$;

create table if not exists listings (
    id uuid constraint listings_pkey primary key default gen_random_uuid(),
    type text not null
);

create table if not exists listing_images (
    id uuid constraint listing_images_pkey primary key default gen_random_uuid(),
    listing_id uuid not null constraint listing_images_listing_id_fkey references listings (id) on delete cascade on update cascade,
    image_url text
);

create table if not exists products (
    id uuid constraint products_pkey primary key default gen_random_uuid()
);

create table if not exists product_images (
    id uuid constraint product_images_pkey primary key default gen_random_uuid(),
    product_id uuid not null constraint product_images_product_id_fkey references products (id) on delete cascade on update cascade,
    src text
);

create index if not exists listing_images_listing_id_idx on listing_images (listing_id);
create index if not exists product_images_product_id_idx on product_images (product_id);

insert into matching_pipeline_migrations (name) values ('0001_app_tables');
