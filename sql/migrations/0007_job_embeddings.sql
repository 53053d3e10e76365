-- Embeddings of job postings. `jobs` is the app's own, as in 0001: left as it is where it exists, and checked.

select require_app_columns(array[
    ['jobs', 'id', 'uuid primary key'], ['jobs', 'title', 'text'], ['jobs', 'company', 'text'],
    ['jobs', 'description', 'text'], ['jobs', 'is_active', 'boolean']
]);

do $$
begin
    if to_regclass('embedding_queue') is not null then
        raise exception 'the pipeline keeps a view of its own by the name embedding_queue'
            using errcode = 'duplicate_object',
            hint = 'Rename or drop yours, with the triggers that fill it, then migrate again; '
                '`matching-pipeline process --missing` does what it owed.';
    end if;
end
$$;

create table if not exists jobs (
    id uuid constraint jobs_pkey primary key default gen_random_uuid(),
    title text,
    company text,
    description text,
    is_active boolean not null default true
);

create table job_embeddings (
    job_id uuid not null constraint job_embeddings_job_id_fkey references jobs (id) on delete cascade on update cascade,
    model text not null,
    dimensions integer not null,
    embedding vector not null,
    input_hash bytea not null,
    embedded_at timestamptz not null default now(),
    constraint job_embeddings_pkey primary key (job_id, model),
    -- The model's own dimensions, enforced: the key carries them here, the check holds the vector to them.
    constraint job_embeddings_model_fkey foreign key (model, dimensions) references embedding_models (name, dimensions) on update cascade,
    constraint job_embeddings_embedding_dimensions check (vector_dims(embedding) = dimensions),
    -- So that no distance overflows, vanishes or is not a number.
    constraint job_embeddings_embedding_unit_length check (vector_norm(embedding) between 0.999 and 1.001)
);
alter table job_embeddings enable row level security;
comment on column job_embeddings.input_hash is
    'SHA-256 of the text that was embedded: where it differs from the posting''s, the row is out of date; equal texts are embedded once';

create index job_embeddings_input_hash_idx on job_embeddings (input_hash, model);

insert into matching_pipeline_migrations (name) values ('0007_job_embeddings');
