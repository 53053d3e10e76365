-- A job board on Supabase, 1,000 postings of 50 texts: identity keys, policies on the table, and an `embedding_queue` of its own.

create table jobs (
    id bigint generated always as identity primary key,
    employer uuid not null,
    title text not null,
    body text not null,
    is_open boolean default true,
    views integer not null default 0
);
alter table jobs enable row level security;
create policy "open jobs are public" on jobs for select using (true);
create policy "employers write" on jobs for all using (true) with check (true);
create table embedding_queue (job_id bigint primary key references jobs on delete cascade, enqueued_at timestamptz not null default now());
create function remember_job() returns trigger language plpgsql as $$
begin
    insert into embedding_queue (job_id) values (new.id) on conflict (job_id) do update set enqueued_at = now();
    return null;
end
$$;
create trigger jobs_remembered after insert or update of title, body on jobs for each row execute function remember_job();

insert into jobs (employer, title, body, is_open)
select uuid_at(1 + n % 100), 'Job ' || n % 50, words_at(n % 50), case n % 20 when 0 then false when 1 then null else true end
from generate_series(1, 1000) as n;
