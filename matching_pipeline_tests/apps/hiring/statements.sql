-- insert
insert into candidates (id, email) values (uuid_at(901), 'new@mail.test');
insert into resumes (id, candidate_id, summary) values (uuid_at(901), uuid_at(901), 'Bakes bread');
insert into postings (title, details) values ('Baker', '{"text": "Bread"}') returning id;
-- upsert
insert into resumes (id, candidate_id, summary) values (uuid_at(1), uuid_at(1), 'Cooks soup') on conflict (id) do update set summary = excluded.summary;
-- edit
update resumes set skills = array_append(skills, 'tea') where id between uuid_at(10) and uuid_at(19);
update candidates set is_looking = not is_looking where id between uuid_at(20) and uuid_at(29);
update candidates set email = 'x' || email;
update postings set closes_on = '2026-01-01' where id between uuid_at(30) and uuid_at(39);
update postings set details = details || '{"pay": 1}';
-- delete
delete from candidates where id between uuid_at(40) and uuid_at(49);
delete from postings where id = uuid_at(1);
-- truncate
truncate candidates cascade;
truncate postings;
-- expected
select 'resume' as source, resumes.id::text as key, '{}'::jsonb as properties,
    array[concat_ws(E'\n\n', summary, nullif(array_to_string(skills, ', '), ''))] as contents
from resumes join candidates on candidates.id = candidate_id where is_looking and coalesce(summary, array_to_string(skills, '')) <> ''
union all
select 'posting', id::text, '{}', array[concat_ws(E'\n\n', title, details ->> 'text')] from postings where closes_on is null
