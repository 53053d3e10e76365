-- The queues, their jobs and the standing workers.

create table queues (
    name text constraint queues_pkey primary key,
    work text not null,
    notify boolean not null default true,
    constraint queues_work_allowed check (work in ('image', 'text', 'derive', 'match', 'generate', 'publish'))
);
alter table queues enable row level security;
comment on table queues is 'one queue for each embeddings asset, each matcher and the generated images; `attach` writes the rows';
comment on column queues.work is 'what a worker does to the jobs: it embeds pictures or texts, computes values of them, keeps lists of matches, makes pictures, or writes into the app''s tables';
comment on column queues.notify is 'whether enqueuing wakes the workers; if not, they look for jobs every tenth of a second';

create table pauses (
    queue text constraint pauses_pkey primary key,
    pause_end timestamptz not null,
    paused_by text not null,
    paused_at timestamptz not null default now()
);
alter table pauses enable row level security;
comment on table pauses is 'queues whose jobs no worker claims, also those of shadow models; see sql/repeatable/0_pauses.sql';
comment on column pauses.pause_end is 'an ended pause has no effect; infinity if the pause lasts until the queue is resumed';

create table jobs (
    id uuid constraint jobs_pkey primary key default gen_random_uuid(),
    queue text not null,
    source text not null,
    kind text not null default 'entity',
    key text collate "C" not null,
    payload jsonb not null default '{}',
    status text not null default 'pending',
    attempts integer not null default 0,
    snoozes integer not null default 0,
    deaths integer not null default 0,
    batch_limit integer,
    claimer integer,
    max_attempts integer not null default 3,
    run_at timestamptz not null default now(),
    error_message text,
    caused_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    constraint jobs_attempts_range check (snoozes between 0 and attempts and max_attempts > 0),
    constraint jobs_deaths_range check (deaths >= 0 and batch_limit > 0),
    constraint jobs_status_fits check (case status
        when 'pending' then completed_at is null
        when 'processing' then completed_at is null and started_at is not null and attempts > snoozes
        when 'completed' then completed_at is not null
        when 'failed' then completed_at is not null and error_message is not null
        else false
    end)
) with (
    -- Every row is updated twice and then deleted: vacuum must keep pace with the churn, not with the table's size.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0.0,
    autovacuum_analyze_threshold = 5000
);
alter table jobs enable row level security;

comment on table jobs is 'a row is a job: one piece of work of one queue';
comment on column jobs.kind is 'what the key names: an entity of the source, one item of it, its parent, all rows of the table from a key on, or those with a value that an exception names; for generated images, what the job asks for';
comment on column jobs.run_at is 'when a claim may take the row: a pending row''s due time, a processing row''s end of lease';
comment on column jobs.attempts is 'claims so far; it grows with every claim, so (id, attempts) names one lease for ever';
comment on column jobs.snoozes is 'attempts that do not count, because of a rate limit, a provider that was down, or a new input';
comment on column jobs.deaths is 'workers that died while they had no other suspect; see sql/repeatable/1_claims.sql';
comment on column jobs.batch_limit is 'how many jobs may be claimed together with this one; null if no worker died that had it';
comment on column jobs.claimer is 'the worker that claimed the job last, by the number of its advisory lock; null if no session holds that lock';
comment on column jobs.caused_at is 'when the app made the change that this job follows from, also if another job is between';
comment on column jobs.completed_at is 'when the row ended, completed or failed';

create index jobs_claim_idx on jobs (queue, run_at, id) where status in ('pending', 'processing');
create index jobs_lease_idx on jobs (queue, run_at) where status = 'processing';
create index jobs_failed_idx on jobs (queue, completed_at) where status = 'failed';
create index jobs_completed_idx on jobs (completed_at, queue) where status = 'completed';
create index jobs_key_idx on jobs (key, source);

create table workers (
    id integer generated always as identity constraint workers_pkey primary key,
    version text not null,
    helps boolean not null default false,
    run_id text,
    failures jsonb not null default '{}',
    requested_at timestamptz not null default now(),
    started_at timestamptz,
    entered_at timestamptz,
    constraint workers_entered_after_start check (entered_at is null or started_at is not null)
);
alter table workers enable row level security;

comment on table workers is 'the standing workers: a sensor asks for a row, the run that it starts takes it, and the worker deletes it when it ends';
comment on column workers.version is 'the code and settings that the worker was started for; the sensor replaces a worker of another version';
comment on column workers.helps is 'true for a worker that ends when nothing is due; false for the one that works until its successor has entered';
comment on column workers.failures is 'the last error of each queue whose handler failed';
comment on column workers.entered_at is 'when all queues were served for the first time';
