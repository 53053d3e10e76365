-- A job board made with Prisma: quoted names, cuid keys, the company in a table of its own, the status an enum.

create type "JobStatus" as enum ('DRAFT', 'PUBLISHED', 'CLOSED');
create table "Company" ("id" text not null, "name" text not null, constraint "Company_pkey" primary key ("id"));
create table "Job" (
    "id" text not null,
    "title" text not null,
    "descriptionMd" text not null,
    "companyId" text not null,
    "status" "JobStatus" not null default 'DRAFT',
    "updatedAt" timestamp(3) not null default current_timestamp,
    constraint "Job_pkey" primary key ("id"),
    constraint "Job_companyId_fkey" foreign key ("companyId") references "Company" ("id") on delete restrict on update cascade
);
create index "Job_status_idx" on "Job" ("status");

insert into "Company" select 'cl' || md5('company ' || n), 'Company ' || n from generate_series(1, 25) as n;
insert into "Job" ("id", "title", "descriptionMd", "companyId", "status")
select 'cl' || md5('job ' || n), 'Job ' || n, words_at(n), 'cl' || md5('company ' || 1 + n % 25),
    (enum_range(null::"JobStatus"))[1 + least(n % 4, 2)]
from generate_series(1, 75) as n;
