-- Which session asks a provider for which answer just now, so that no two processes buy the same answer.

-- unlogged: after a crash no session asks anything
create unlogged table ai_asking (
    model text not null,
    input_hash bytea not null,
    asker integer not null,
    constraint ai_asking_pkey primary key (model, input_hash)
);
alter table ai_asking enable row level security;
comment on table ai_asking is 'inputs that are being asked; the answer is a row of `ai_answers` before the row here goes';
comment on column ai_asking.asker is 'process id of the session that asks; it holds an advisory lock of that number as long as it lives';

insert into matching_pipeline_migrations (name) values ('0012_asking');
