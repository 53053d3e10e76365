-- insert
with new as (insert into furniture (id, seller, title) values (uuid_at(900), uuid_at(11), 'Sofa') returning id)
insert into gallery (shows, shown_id, picture_url) select 'furniture', id, 'http://pictures.test/interior/new' || n || '.png'
from new, generate_series(1, 2) as n;
insert into matches (project_id, note) values (uuid_at(1), 'by hand') returning id;
insert into image_ai (prompt) values ('a warm room');
-- upsert
insert into projects (id, designer, title) values (uuid_at(1), uuid_at(1), 'Renamed'), (uuid_at(901), uuid_at(1), 'Attic')
on conflict (id) do update set title = excluded.title;
insert into gallery (shows, shown_id, picture_url) values ('project', uuid_at(901), 'http://pictures.test/interior/attic7.png');
-- edit
update furniture set sold_at = now() where id = uuid_at(2);
update furniture set sold_at = null where id = uuid_at(7);
update gallery set picture_url = 'http://pictures.test/interior/other4.png' where shows = 'project' and shown_id = uuid_at(5);
update gallery set shows = 'project', shown_id = uuid_at(6) where shows = 'furniture' and shown_id = uuid_at(9);
update projects set is_draft = not is_draft where id in (uuid_at(10), uuid_at(11));
-- delete
delete from gallery where shows = 'project' and shown_id = uuid_at(12);
delete from furniture where id between uuid_at(20) and uuid_at(29);
delete from profiles where display_name = 'Person 3';
-- truncate
truncate gallery, matches;
truncate projects, furniture, matches;
-- expected
select 'project' as source, projects.id::text as key, '{}'::jsonb as properties, array_agg(picture_url) as contents
from projects join gallery on shows = 'project' and shown_id = projects.id where not is_draft group by projects.id
union all
select 'furniture', furniture.id::text, '{}', array_agg(picture_url)
from furniture join gallery on shows = 'furniture' and shown_id = furniture.id where sold_at is null group by furniture.id
