-- The table of all queues. A row is a job: one piece of work for one entity of the app.

create table job_queue (
    id uuid constraint job_queue_pkey primary key default gen_random_uuid(),
    queue text not null,
    entity_kind text not null,
    entity_id uuid not null,
    payload jsonb not null default '{}',
    status text not null default 'pending',
    attempts integer not null default 0,
    snoozes integer not null default 0,
    max_attempts integer not null default 3,
    run_at timestamptz not null default now(),
    error_message text,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    constraint job_queue_status_allowed check (status in ('pending', 'processing', 'completed', 'failed')),
    constraint job_queue_attempts_range check (snoozes between 0 and attempts and max_attempts > 0),
    constraint job_queue_processing_requires_started_at check (status <> 'processing' or (started_at is not null and attempts > snoozes)),
    constraint job_queue_ended_requires_completed_at check ((completed_at is not null) = (status in ('completed', 'failed'))),
    constraint job_queue_failed_requires_error check (status <> 'failed' or error_message is not null)
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
alter table job_queue enable row level security;

comment on column job_queue.run_at is 'when a claim may take the row: a pending row''s due time, a processing row''s end of lease';
comment on column job_queue.attempts is 'claims so far; it grows with every claim, so (id, attempts) names one lease for ever';
comment on column job_queue.snoozes is 'attempts that are not charged: a rate limit, a provider that was down, a new input';
comment on column job_queue.completed_at is 'when the row ended, completed or failed';

create index job_queue_claim_idx on job_queue (queue, run_at, id) where status in ('pending', 'processing');
create index job_queue_failed_idx on job_queue (queue, completed_at) where status = 'failed';
create index job_queue_completed_idx on job_queue (completed_at, queue) where status = 'completed';
create index job_queue_entity_id_idx on job_queue (entity_id);

insert into matching_pipeline_migrations (name) values ('0002_job_queue');
