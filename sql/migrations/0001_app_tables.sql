-- The app's tables. They are the app's own: whatever exists already is left as it is, only what is
-- missing is created, and columns that the pipeline reads are checked by name and type.

create extension if not exists vector;

create table if not exists matching_pipeline_migrations (
    name text constraint matching_pipeline_migrations_pkey primary key,
    applied_at timestamptz not null default now()
);
alter table matching_pipeline_migrations enable row level security;

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

do $$
declare
    problems text;
begin
    select string_agg(
        case
            when found.type_name is null then format('column %I.%I is missing (%s is needed)', needed.table_name, needed.column_name, needed.kind)
            else format('column %I.%I is %s (%s is needed)', needed.table_name, needed.column_name, found.type_name, needed.kind)
        end, E'\n' order by needed.table_name, needed.column_name)
    into problems
    from (values
        ('listings', 'id', 'uuid'), ('listings', 'type', 'text'),
        ('listing_images', 'id', 'uuid'), ('listing_images', 'listing_id', 'uuid'), ('listing_images', 'image_url', 'text'),
        ('products', 'id', 'uuid'),
        ('product_images', 'id', 'uuid'), ('product_images', 'product_id', 'uuid'), ('product_images', 'src', 'text')
    ) as needed (table_name, column_name, kind)
    left join lateral (
        select format_type(pg_attribute.atttypid, null) as type_name, pg_type.typcategory as category
        from pg_attribute
        join pg_type on pg_type.oid = pg_attribute.atttypid
        where pg_attribute.attrelid = to_regclass(needed.table_name)
          and pg_attribute.attname = needed.column_name
          and not pg_attribute.attisdropped
    ) as found on true
    where found.type_name is null
       or not case needed.kind
           when 'uuid' then found.type_name = 'uuid'
           -- an enumeration serves as well as text: it is only compared and read as text
           else found.category in ('S', 'E')
       end;
    if problems is not null then
        raise exception E'the app''s tables do not fit the pipeline:\n%', problems
            using errcode = 'datatype_mismatch', hint = 'Add or convert the columns named above, then migrate again.';
    end if;
end
$$;

create index if not exists listing_images_listing_id_idx on listing_images (listing_id);
create index if not exists product_images_product_id_idx on product_images (product_id);

insert into matching_pipeline_migrations (name) values ('0001_app_tables');
