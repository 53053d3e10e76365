-- Rebuilds of `matches`, and the shards that each is divided into: all that the steps of a rebuild tell each other, on
-- whichever machine they run.

create table rebuilds (
    number bigint generated always as identity constraint rebuilds_pkey primary key,
    kind text not null constraint rebuilds_kind_fkey references match_settings (kind),
    begun_by text,
    begun_at timestamptz not null default now()
);
alter table rebuilds enable row level security;
comment on table rebuilds is 'of a kind only the newest may write: its number is drawn while nobody else writes such pairs';
comment on column rebuilds.begun_by is 'the Dagster run, of several that continue each other the first; null where a person began it';

create table rebuild_shards (
    rebuild bigint not null constraint rebuild_shards_rebuild_fkey references rebuilds (number) on delete cascade,
    place integer not null,
    entities integer not null,
    first_project uuid,
    before_project uuid,
    schools text[],
    figures jsonb,
    seconds double precision,
    constraint rebuild_shards_pkey primary key (rebuild, place)
);
alter table rebuild_shards enable row level security;
comment on table rebuild_shards is 'of projects the ids from first_project on and before before_project, null where no end is; of faces their schools, with a null for those that are in none';
comment on column rebuild_shards.entities is 'how many projects or faces it had when it was planned';
comment on column rebuild_shards.figures is 'with seconds: what it did to `matches` and how long that took, once it is done';

insert into matching_pipeline_migrations (name) values ('0010_rebuilds');
