-- insert
insert into jobs (employer, title, body) values (uuid_at(1), 'Baker', 'Bread') returning id;
select count(*) from embedding_queue;
-- upsert
merge into jobs using (values (3, 'Cook'), (20001, 'Nurse')) as given (id, title) on jobs.id = given.id
when matched then update set title = given.title when not matched then insert (employer, title, body) values (uuid_at(2), given.title, 'Soup');
-- edit
update jobs set views = views + 1;
update jobs set body = body || ' and tea' where id between 100 and 119;
update jobs set is_open = not is_open where id between 200 and 219;
-- delete
delete from jobs where employer = uuid_at(5);
delete from embedding_queue where job_id < 100;
-- truncate
truncate jobs restart identity cascade;
-- expected
select 'posting' as source, id::text as key, '{}'::jsonb as properties, array[title || ': ' || body] as contents from jobs where is_open
