-- A Laravel app: its `jobs` and `failed_jobs` are Laravel's own work queue. Adverts are embedded, and soft deletes count.

create table migrations (id serial primary key, migration varchar(255) not null, batch integer not null);
create table jobs (
    id bigserial primary key,
    queue varchar(255) not null,
    payload text not null,
    attempts smallint not null,
    reserved_at integer,
    available_at integer not null,
    created_at integer not null
);
create index jobs_queue_index on jobs (queue);
create table failed_jobs (id bigserial primary key, uuid varchar(255) not null unique, exception text not null);
create table adverts (
    id bigserial primary key,
    title varchar(255) not null,
    description text,
    price numeric(8, 2) not null,
    created_at timestamp(0),
    updated_at timestamp(0),
    deleted_at timestamp(0)
);

insert into migrations (migration, batch) values ('0001_01_01_000002_create_jobs_table', 1);
insert into adverts (title, description, price, deleted_at)
select 'Advert ' || n, words_at(n), n, case when n % 10 = 0 then now() end from generate_series(1, 60) as n;
