-- insert
insert into profiles (id, school_id, gender) values (uuid_at(20001), 1, 'woman'), (uuid_at(20002), 1, 'man');
insert into faces (id, profile_id, embedding) values
    (uuid_at(20001), uuid_at(20001), vector_at(20001, 64)::vector), (uuid_at(20002), uuid_at(20002), vector_at(20002, 64)::vector),
    (uuid_at(20003), uuid_at(20002), null);
insert into match_jobs (face_id) values (uuid_at(20001)) on conflict (face_id) do update set tries = match_jobs.tries + 1;
with made as (insert into matches (face_id, other_id, score) values (uuid_at(20001), uuid_at(20002), 0.9) returning id)
insert into messages (match_id, body) select id, 'Hello' from made;
-- upsert
insert into faces (id, profile_id, embedding) values (uuid_at(20003), uuid_at(20002), vector_at(3, 64)::vector), (uuid_at(1), uuid_at(1), vector_at(4, 64)::vector)
on conflict (id) do update set embedding = excluded.embedding;
-- edit
update faces set embedding = vector_at(30000, 64)::vector where id between uuid_at(100) and uuid_at(119);
update faces set embedding = null where id = uuid_at(2);
update matches set seen_at = now() where face_id = uuid_at(10);
update profiles set last_seen = now();
update profiles set school_id = 2, gender = 'man' where id between uuid_at(200) and uuid_at(209);
update profiles set kind = 'teacher' where id = uuid_at(300);
update profiles set kind = 'student' where id in (uuid_at(50), uuid_at(100));
-- delete
delete from faces where id between uuid_at(400) and uuid_at(409);
delete from profiles where id between uuid_at(500) and uuid_at(509);
-- truncate
truncate faces cascade;
-- holds
-- the app's own table has the pairs of the matcher, and the row that the app itself inserted
select count(*) filter (where mine.id is null) = 0 and count(*) filter (where pair.id is null) <= 1
    and bool_and(mine.score = pair.similarity::real) from matches as mine
full join (select id, left_id, right_id, similarity from matching_pipeline.matches where matcher = 'face') as pair
    on pair.left_id = mine.face_id and pair.right_id = mine.other_id;
-- expected
select 'face' as source, faces.id::text as key, jsonb_build_object('school', school_id::text, 'gender', gender) as properties,
    array[embedding::text] as contents
from faces join profiles on profiles.id = profile_id where kind = 'student' and embedding is not null
