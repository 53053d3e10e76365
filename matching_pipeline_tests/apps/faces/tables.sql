-- A face app: 1,000 faces. The school is a foreign key, the gender an enum of three words. The app's own `matches` has a score, and
-- messages point to it; its own `match_jobs` has other columns.

create type gender as enum ('woman', 'man', 'other');
create table schools (id smallint primary key, name text not null);
create table profiles (
    id uuid primary key default gen_random_uuid(),
    school_id smallint not null references schools,
    gender gender not null,
    kind text not null default 'student',
    last_seen timestamptz
);
create table faces (
    id uuid primary key default gen_random_uuid(),
    profile_id uuid not null references profiles on delete cascade,
    embedding vector(64)
);
create index faces_profile_idx on faces (profile_id);
create table matches (
    id bigint generated always as identity primary key,
    face_id uuid not null references faces on delete cascade,
    other_id uuid not null references faces on delete cascade,
    score real not null,
    seen_at timestamptz,
    unique (face_id, other_id)
);
create table messages (id bigint generated always as identity primary key, match_id bigint references matches on delete cascade, body text);
create table match_jobs (face_id uuid primary key references faces on delete cascade, state text not null default 'new', tries integer default 0);

insert into schools select n, 'School ' || n from generate_series(1, 10) as n;
insert into profiles (id, school_id, gender, kind)
select uuid_at(n), 1 + n % 10, (enum_range(null::gender))[1 + n / 10 % 3], case when n % 50 = 0 then 'teacher' else 'student' end
from generate_series(1, 1000) as n;
insert into faces (id, profile_id, embedding) select uuid_at(n), uuid_at(n), vector_at(n, 64)::vector from generate_series(1, 1000) as n;
