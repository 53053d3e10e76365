-- Embeddings of job postings. `jobs` is the app's own, as in 0001: left as it is where it exists, and checked.

do $$
declare
    problems text;
begin
    select string_agg(
        format('column jobs.%I %s (%s is needed)', needed.column_name, case
            when found.type_name is null then 'is missing'
            when not found.fits then 'is ' || found.type_name
            else 'is not unique'
        end, needed.kind), E'\n' order by needed.column_name)
    into problems
    from (values
        ('id', 'uuid primary key'), ('title', 'text'), ('company', 'text'), ('description', 'text'), ('is_active', 'boolean')
    ) as needed (column_name, kind)
    left join lateral (
        select format_type(pg_type.oid, null) as type_name,
            case needed.kind
                when 'text' then pg_type.typcategory in ('S', 'E')
                when 'boolean' then pg_type.oid = 'boolean'::regtype
                else pg_type.oid = 'uuid'::regtype
            end as fits,
            needed.kind <> 'uuid primary key' or exists (
                select from pg_index
                where indrelid = attrelid and indisunique and indimmediate and indpred is null
                  and indnkeyatts = 1 and indkey[0] = attnum
            ) as unique_enough
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = to_regclass('jobs') and attname = needed.column_name and not attisdropped
    ) as found on true
    where to_regclass('jobs') is not null
      and (found.type_name is null or not found.fits or not found.unique_enough);
    if problems is not null then
        raise exception E'the app''s tables do not fit the pipeline:\n%', problems
            using errcode = 'datatype_mismatch', hint = 'Add or convert the columns named above, then migrate again.';
    end if;
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
    constraint job_embeddings_embedding_fits_model check (vector_dims(embedding) = dimensions),
    -- So that no distance overflows, vanishes or is not a number.
    constraint job_embeddings_embedding_is_of_unit_length check (vector_norm(embedding) between 0.999 and 1.001)
);
alter table job_embeddings enable row level security;
comment on column job_embeddings.input_hash is
    'SHA-256 of the text that was embedded: where it differs from the posting''s, the row is out of date; equal texts are embedded once';

create index job_embeddings_input_hash_idx on job_embeddings (input_hash, model);

insert into matching_pipeline_migrations (name) values ('0007_job_embeddings');
