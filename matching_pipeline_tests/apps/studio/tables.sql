-- A photo studio made with Prisma: quoted names, status words in lower case, `job_queue` and `get_next_job` of its own.

create type project_status as enum ('new', 'waiting', 'working', 'ready', 'broken');
create table "Project" (
    "id" text not null,
    "ownerId" text not null,
    "mainImage" text,
    "status" project_status not null default 'new',
    constraint "Project_pkey" primary key ("id")
);
create table job_queue (id serial primary key, kind text not null, "projectId" text references "Project" on delete cascade, done boolean default false);
create function get_next_job(wanted text) returns setof job_queue language sql as $$
    update job_queue set done = true where id = (select id from job_queue where kind = wanted and not done order by id limit 1) returning *
$$;

insert into "Project" ("id", "ownerId", "mainImage") select 'cl' || md5('project ' || n), 'cl' || n % 9, 'studio/main' || n || '.png'
from generate_series(1, 60) as n;
