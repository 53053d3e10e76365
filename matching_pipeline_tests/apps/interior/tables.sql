-- An interior marketplace: rooms to furnish and furniture. Both galleries are in one table, and `matches`, `image_ai`, `profiles` and
-- `projects` are the app's own.

create table profiles (id uuid primary key default gen_random_uuid(), display_name text not null);
create table projects (
    id uuid primary key default gen_random_uuid(),
    designer uuid not null references profiles on delete cascade,
    title text not null,
    is_draft boolean not null default false
);
create table furniture (
    id uuid primary key default gen_random_uuid(),
    seller uuid not null references profiles on delete cascade,
    title text not null,
    sold_at timestamptz
);
create table gallery (
    id bigint generated always as identity primary key,
    shows text not null check (shows in ('project', 'furniture', 'profile')),
    shown_id uuid not null,
    picture_url text not null
);
create index gallery_shown_idx on gallery (shows, shown_id);
create table matches (id serial primary key, project_id uuid references projects on delete cascade, note text);
create table image_ai (id serial primary key, prompt text);

insert into profiles (id, display_name) select uuid_at(n), 'Person ' || n from generate_series(1, 20) as n;
insert into projects (id, designer, title, is_draft)
select uuid_at(n), uuid_at(1 + n % 10), 'Project ' || n, n % 10 = 0 from generate_series(1, 80) as n;
insert into furniture (id, seller, title, sold_at)
select uuid_at(n), uuid_at(11 + n % 10), 'Furniture ' || n, case when n % 7 = 0 then '2026-01-01'::timestamptz end
from generate_series(1, 100) as n;
insert into gallery (shows, shown_id, picture_url)
select 'project', id, 'http://pictures.test/interior/p' || right(id::text, 3) || '.png' from projects
union all
select 'furniture', id, 'http://pictures.test/interior/f' || right(id::text, 3) || '.png' from furniture
union all
select 'profile', id, 'http://pictures.test/interior/nobody' || right(id::text, 3) || '.png' from profiles;
