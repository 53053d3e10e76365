-- insert
insert into users (email, school, sex) values ('new@school.test', 'SCHOOL 1', 'f') returning id;
insert into user_photos (user_id, url, embedding) select id, '/photos/new', vector_at(20001, 128) from users where email = 'new@school.test';
-- upsert
insert into users (email, school, sex) values ('u7@school.test', 'School 2', 'm'), ('u20008@school.test', 'School 2', 'm')
on conflict (email) do update set school = excluded.school, sex = excluded.sex;
insert into user_photos (photo_id, user_id, url, embedding) values (9, 9, '/photos/9', vector_at(20002, 128))
on conflict (photo_id) do update set embedding = excluded.embedding;
-- edit
update user_photos set embedding = vector_at(user_id + 30000, 128) where user_id between 100 and 119;
update user_photos set embedding = null where user_id = 120;
update user_photos set user_id = 130 where user_id = 131;
update users set school = 'School 3' where id between 200 and 219;
update users set deleted_at = now() where id between 300 and 309;
update users set school = null where id = 310;
update users set email = 'changed-' || email where id < 1000;
-- delete
delete from users where id between 400 and 409;
delete from user_photos where photo_id between 500 and 509;
-- truncate
truncate users restart identity cascade;
-- expected
select 'photo' as source, photo_id::text as key, jsonb_build_object('school', lower(school), 'sex', sex) as properties,
    array[embedding::vector::text] as contents
from user_photos join users on users.id = user_id where deleted_at is null and school is not null and embedding is not null
