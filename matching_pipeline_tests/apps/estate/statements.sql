-- insert
insert into homes (purpose, city, images) values
    ('sale', 'City 1', '[{"url": "http://pictures.test/estate/new3.png", "kind": "photo"}]'), ('rent', 'City 2', '[]') returning id;
-- upsert
insert into homes (id, purpose, city, images) values (1, 'rent', 'City 1', '[{"url": "http://pictures.test/estate/again8.png", "kind": "photo"}]')
on conflict (id) do update set images = homes.images || excluded.images;
-- edit
update homes set images = jsonb_set(images, '{1,kind}', '"photo"') where id in (2, 3);
update homes set purpose = 'sale' where id in (5, 7);
update homes set "withdrawnAt" = '2026-02-01' where id in (8, 9, 10);
update homes set city = city || '!' where id < 100;
-- delete
delete from homes where id between 20 and 29;
-- truncate
truncate homes restart identity;
-- expected
select 'home' as source, id::text as key, jsonb_build_object('purpose', purpose) as properties,
    array_agg(image ->> 'url') as contents
from homes, jsonb_array_elements(images) as image
where "withdrawnAt" is null and image ->> 'kind' = 'photo' group by id
