-- insert
insert into adverts (title, description, price, created_at, updated_at) values ('Bicycle', 'Blue', 90, now(), now()) returning id;
insert into jobs (queue, payload, attempts, available_at, created_at) values ('default', '{"job": "SendMail"}', 0, 1, 1);
delete from jobs where id = (select id from jobs where queue = 'default' order by id limit 1 for update skip locked);
-- upsert
insert into adverts (id, title, price) values (1, 'Lamp', 5), (2, 'Desk', 6) on conflict (id) do update set title = excluded.title, updated_at = now();
-- edit
update adverts set deleted_at = now() where id between 11 and 15;
update adverts set deleted_at = null where id = 20;
update adverts set updated_at = now(), price = price * 2;
-- delete
delete from adverts where id between 31 and 39;
-- truncate
truncate adverts restart identity;
-- expected
select 'advert' as source, id::text as key, '{}'::jsonb as properties, array[concat_ws(E'\n\n', title, nullif(description, ''))] as contents
from adverts where deleted_at is null
