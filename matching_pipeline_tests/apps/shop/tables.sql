-- A shop: sortable ids such as prod_01H…, and the URLs of a product's pictures in one column. Looks are matched with products.

create table products (
    id text primary key,
    title text not null,
    price_cents integer not null,
    images text[] not null default '{}',
    is_published boolean not null default true
);
create table looks (id text primary key, image text not null, season text);

insert into products (id, title, price_cents, images, is_published)
select 'prod_01H' || to_char(n, 'FM0000'), 'Product ' || n, n * 100,
    array['http://pictures.test/shop/a' || n || '.png', 'http://pictures.test/shop/b' || n * 3 || '.png'], n % 11 <> 0
from generate_series(1, 100) as n;
insert into looks select 'look_01H' || to_char(n, 'FM0000'), 'http://pictures.test/shop/look' || n || '.png', 'summer'
from generate_series(1, 70) as n;
