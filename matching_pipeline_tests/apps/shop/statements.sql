-- insert
insert into products (id, title, price_cents, images) values
    ('prod_01J0001', 'Scarf', 1900, '{http://pictures.test/shop/new1.png,http://pictures.test/shop/new2.png}'), ('prod_01J0002', 'Hat', 2900, '{}');
insert into looks values ('look_01J0001', 'http://pictures.test/shop/look7.png');
-- upsert
insert into products (id, title, price_cents, images) values ('prod_01H0001', 'Coat', 9900, '{http://pictures.test/shop/coat5.png}')
on conflict (id) do update set images = excluded.images || products.images;
-- edit
update products set images = array(select unnest(images) order by 1 desc) where id < 'prod_01H0100';
update products set images = array_remove(images, images[1]) where id in ('prod_01H0002', 'prod_01H0003');
update products set images = '{}' where id = 'prod_01H0004';
update products set is_published = not is_published where id in ('prod_01H0011', 'prod_01H0012');
update products set price_cents = price_cents + 1;
update looks set image = 'http://pictures.test/shop/look99.png' where id = 'look_01H0003';
update looks set id = 'look_02H0004' where id = 'look_01H0004';
-- delete
delete from products where id between 'prod_01H0050' and 'prod_01H0060';
delete from looks where id = 'look_01H0005';
-- truncate
truncate products;
truncate looks;
-- expected
select 'product' as source, id as key, '{}'::jsonb as properties, images as contents from products where is_published and images <> '{}'
union all
select 'look', id, '{}', array[image] from looks
