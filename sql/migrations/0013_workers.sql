-- The standing workers. A row is asked for by a sensor, taken by the run that the sensor starts, and deleted when the
-- worker leaves. A worker is alive as long as its session holds the advisory lock (worker_lock(), id).

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

comment on column workers.version is 'the code and settings that the worker was started for; the sensor relieves a worker of another version';
comment on column workers.helps is 'true of a worker that leaves when nothing is due; false of the one that stays until its successor has entered';
comment on column workers.failures is 'the last error of each queue whose handler failed';
comment on column workers.entered_at is 'when all queues were served for the first time';

insert into matching_pipeline_migrations (name) values ('0013_workers');
