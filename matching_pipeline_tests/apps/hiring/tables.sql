-- Résumés and postings of a recruiter: two texts in one schema, both with uuid keys.

create table candidates (id uuid primary key default gen_random_uuid(), email text unique not null, is_looking boolean not null default true);
create table resumes (
    id uuid primary key default gen_random_uuid(),
    candidate_id uuid not null references candidates on delete cascade,
    summary text,
    skills text[] not null default '{}'
);
create table postings (id uuid primary key default gen_random_uuid(), title text not null, details jsonb not null, closes_on date);

insert into candidates (id, email, is_looking) select uuid_at(n), 'c' || n || '@mail.test', n % 8 <> 0 from generate_series(1, 60) as n;
insert into resumes (id, candidate_id, summary, skills) select uuid_at(n), uuid_at(n), words_at(n), array['skill' || n % 7, 'skill' || n % 5]
from generate_series(1, 60) as n;
insert into postings (id, title, details) select uuid_at(n), 'Posting ' || n, jsonb_build_object('text', words_at(n * 3)) from generate_series(1, 60) as n;
