-- insert
insert into app.venues values ('Rome', 1);
insert into app.rooms values ('Rome', 1, 1, 'rooms/new4.png'), ('Rome', 1, 2, null);
insert into app."Artwork" values (901, '[3,2,1]');
insert into app."ArtworkImage" values (901, 1, 'art', 'new5.png'), (901, 2, 'art', 'new6.png');
-- upsert
insert into app.rooms values ('Rome', 1, 2, 'rooms/new7.png') on conflict (city, venue, room) do update set photo = excluded.photo;
-- edit
update app.rooms set photo = 'rooms/other3.png' where city = 'Berlin' and room = 1;
update app.rooms set city = 'Paris', venue = 1, room = 100 where city = 'Berlin' and venue = 2 and room = 2;
update app.venues set is_open = not is_open where number in (3, 6);
update app.venues set number = 50 where city = 'Paris' and number = 5;
update app."ArtworkImage" set bucket = 'arts', path = '77.png' where "artworkId" = 7;
update app."ArtworkImage" set "artworkId" = 901, place = 3 where "artworkId" = 8;
-- delete
delete from app.venues where city = 'Paris' and number = 7;
delete from app."Artwork" where "artworkId" between 20 and 29;
-- truncate
truncate app.venues cascade;
truncate app."Artwork" cascade;
-- expected
select 'room' as source, jsonb_build_array(rooms.city, venue::text, room::text)::text as key, '{}'::jsonb as properties, array['http://pictures.test/' || photo] as contents
from app.rooms join app.venues on venues.city = rooms.city and number = venue where is_open and photo is not null
union all
select 'artwork', "artworkId"::text, '{}', array_agg('http://pictures.test/' || bucket || '/' || path) from app."ArtworkImage" group by "artworkId"
