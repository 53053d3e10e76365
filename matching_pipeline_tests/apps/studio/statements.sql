-- insert
insert into "Project" ("id", "ownerId", "mainImage") values ('clnew', 'cl1', 'studio/new8.png'), ('clempty', 'cl1', null) returning "status";
insert into job_queue (kind, "projectId") values ('mail', 'clnew');
select * from get_next_job('mail');
-- ask
select enqueue_complete_pack('clnew');
select enqueue_image('cl' || md5('project 1'), (select name from matching_pipeline.image_types limit 1));
-- upsert
insert into "Project" ("id", "ownerId", "mainImage") values ('clnew', 'cl2', 'studio/other9.png')
on conflict ("id") do update set "mainImage" = excluded."mainImage";
-- edit
update "Project" set "status" = 'waiting' where "ownerId" = 'cl3';
update "Project" set "mainImage" = null where "id" = 'cl' || md5('project 5');
update "Project" set "mainImage" = 'http://pictures.test/elsewhere7.png' where "id" = 'cl' || md5('project 6');
-- delete
delete from "Project" where "ownerId" = 'cl4';
-- truncate
truncate "Project", job_queue;
-- holds
select (select "status" from "Project" where "id" = 'clnew') = 'ready';
select (select count(*) from generated_images where project_id = 'clnew') = (select count(*) from matching_pipeline.image_types where enabled);
select count(*) = 0 from "Project" where "status" in ('working', 'broken');
-- expected
select 'studio_project' as source, "id" as key, '{}'::jsonb as properties,
    array[case when "mainImage" like 'http%' then "mainImage" else 'http://pictures.test/' || "mainImage" end] as contents
from "Project" where "mainImage" is not null
