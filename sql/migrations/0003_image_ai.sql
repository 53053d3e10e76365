-- Embeddings and attributes of images, and the registry of models that made them.

create table embedding_models (
    name text constraint embedding_models_pkey primary key,
    modality text not null,
    dimensions integer not null,
    status text not null default 'shadow',
    created_at timestamptz not null default now(),
    constraint embedding_models_modality_allowed check (modality in ('image', 'text')),
    constraint embedding_models_status_allowed check (status in ('active', 'shadow', 'retired')),
    constraint embedding_models_dimensions_range check (dimensions between 1 and 16000),
    constraint embedding_models_name_dimensions_key unique (name, dimensions)
);
create unique index embedding_models_active_key on embedding_models (modality) where status = 'active';
alter table embedding_models enable row level security;

create table image_ai (
    source text not null,
    image_id uuid not null,
    model text not null,
    dimensions integer not null,
    embedding vector not null,
    attributes jsonb not null default '{}',
    image_url text not null,
    content_hash bytea not null,
    thumbnail bytea not null,
    analyzed_at timestamptz not null default now(),
    constraint image_ai_pkey primary key (source, image_id, model),
    constraint image_ai_source_allowed check (source in ('project', 'product')),
    -- The model's own dimensions, enforced: the key carries them here, the check holds the vector to them.
    constraint image_ai_model_fkey foreign key (model, dimensions) references embedding_models (name, dimensions) on update cascade,
    constraint image_ai_embedding_dimensions check (vector_dims(embedding) = dimensions),
    constraint image_ai_embedding_not_zero check (vector_norm(embedding) > 0)
);
alter table image_ai enable row level security;
comment on column image_ai.image_url is 'the URL that was fetched: where it differs from the app''s, the row is out of date';
comment on column image_ai.content_hash is 'SHA-256 of the bytes fetched: equal pictures are analysed once';

create index image_ai_image_id_idx on image_ai (image_id);
create index image_ai_content_hash_idx on image_ai (content_hash, model);

insert into matching_pipeline_migrations (name) values ('0003_image_ai');
