-- insert
insert into members values ('user_2new', 'North');
insert into offers (id, member_id, title) values ('offer_new', 'user_2new', 'Bicycle') returning id, state;
insert into offer_photos values ('offers/new/side-3.png', 'offer_new'), ('offers/new/back-4.png', 'offer_new');
insert into wishes values ('wish_new', 'user_2new', 'wishes/new 5.png');
-- upsert
insert into offers (id, member_id, title) values ('offer_1', 'user_2a2', 'Lamp'), ('offer_more', 'user_2a2', 'Desk')
on conflict (id) do update set title = excluded.title, state = 'reserved';
insert into wishes (id, member_id, photo_path) values ('wish_1', 'user_2a2', 'wishes/other 6.png')
on conflict (id) do update set photo_path = excluded.photo_path;
-- edit
update offers set state = 'gone' where id in ('offer_2', 'offer_3');
update offers set state = 'open' where id = 'offer_9';
update offer_photos set path = 'offers/4/again-9.png' where offer_id = 'offer_4';
update offer_photos set offer_id = 'offer_more' where offer_id = 'offer_5';
update wishes set photo_path = null where id = 'wish_8';
update members set id = 'user_3a7', campus = 'East' where id = 'user_2new' and not exists (select from offers where member_id = 'user_2new');
-- delete
delete from members where id in ('user_2a10', 'user_2a11');
delete from offer_photos where offer_id = 'offer_20';
-- truncate
truncate members cascade;
-- expected
select 'wish' as source, id as key, '{}'::jsonb as properties, array['http://pictures.test/campus/' || ltrim(photo_path, '/')] as contents
from wishes where photo_path is not null
union all
select 'offer', offers.id, '{}', array_agg('http://pictures.test/campus/' || path)
from offers join offer_photos on offer_id = offers.id where state <> 'gone' group by offers.id
