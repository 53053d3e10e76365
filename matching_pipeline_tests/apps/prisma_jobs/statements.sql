-- insert
insert into "Job" ("id", "title", "descriptionMd", "companyId", "status") values ('clnew', 'Baker', 'Bread, early', 'cl' || md5('company 1'), 'PUBLISHED')
returning "id", "updatedAt";
-- upsert
insert into "Job" ("id", "title", "descriptionMd", "companyId", "status") values ('clnew', 'Baker', 'Bread, late', 'cl' || md5('company 1'), 'PUBLISHED'), ('clmore', 'Cook', 'Soup', 'cl' || md5('company 2'), 'DRAFT')
on conflict ("id") do update set "descriptionMd" = excluded."descriptionMd", "updatedAt" = current_timestamp;
-- edit
update "Job" set "status" = 'CLOSED' where "title" in ('Job 1', 'Job 2', 'Job 5');
update "Job" set "status" = 'PUBLISHED' where "title" in ('Job 4', 'Job 8');
update "Job" set "updatedAt" = current_timestamp;
update "Company" set "name" = 'Renamed' where "id" = 'cl' || md5('company 7');
update "Company" set "id" = 'clmoved' where "id" = 'cl' || md5('company 8');
-- delete
delete from "Job" where "companyId" = 'cl' || md5('company 9');
delete from "Company" where "id" = 'cl' || md5('company 9');
-- truncate
truncate "Job", "Company";
-- expected
select 'job' as source, "Job"."id" as key, '{}'::jsonb as properties, array[concat_ws(E'\n\n', "title", "name", "descriptionMd")] as contents
from "Job" join "Company" on "Company"."id" = "companyId" where "status" = 'PUBLISHED'
