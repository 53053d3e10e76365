-- The sources that are attached, and the pipeline's mirror of what it needs of their rows.

create table sources (
    name text constraint sources_pkey primary key,
    declaration jsonb not null,
    queues text[] not null default '{}',
    reads jsonb not null,
    attached_at timestamptz default now(),
    compared_at timestamptz not null default now()
);
alter table sources enable row level security;
comment on table sources is 'attached and detached sources; only the owner writes here, because `read_source` runs these statements with the owner''s rights';
comment on column sources.declaration is 'what `attach` was given';
comment on column sources.queues is 'the queues that get a job when a row changes';
comment on column sources.attached_at is 'null once the source is detached';
comment on column sources.compared_at is 'when the daily comparison of the whole table was enqueued last';
comment on column sources.reads is 'the statements that read rows of the app, by what their keys name: entity, item, parent, range; those that lock the row of a key: lock, lock_free; and the one that finds a user''s keys: own';

create table embedding_models (
    name text constraint embedding_models_pkey primary key,
    modality text not null,
    dimensions integer not null,
    status text not null default 'shadow',
    created_at timestamptz not null default now(),
    constraint embedding_models_modality_allowed check (modality in ('image', 'text', 'vector')),
    constraint embedding_models_status_allowed check (status in ('active', 'shadow', 'retired')),
    constraint embedding_models_dimensions_range check (dimensions between 1 and 16000),
    constraint embedding_models_name_dimensions_key unique (name, dimensions)
);
create unique index embedding_models_active_key on embedding_models (modality) where status = 'active' and modality <> 'vector';
create unique index embedding_models_shadow_key on embedding_models (modality) where status = 'shadow';
alter table embedding_models enable row level security;
comment on column embedding_models.modality is 'image or text; vector for a source whose vectors the app makes, which has the source''s name';

create table entities (
    source text not null constraint entities_source_fkey references sources (name) on delete cascade,
    id uuid not null,
    key text collate "C" not null,
    parent_key text collate "C",
    user_key text collate "C",
    properties jsonb not null default '{}',
    mirrored_at timestamptz not null default now(),
    embedding vector,
    dimensions integer generated always as (vector_dims(embedding)) stored,
    constraint entities_pkey primary key (source, id),
    constraint entities_model_fkey foreign key (source, dimensions) references embedding_models (name, dimensions),
    constraint entities_not_zero check (vector_norm(embedding) > 0)
);
-- A vector of 512 dimensions is too long for one chunk of TOAST. Three rows fit a page, as three of such chunks would.
alter table entities alter column embedding set storage main;
alter table entities set (toast_tuple_target = 2720);
alter table entities enable row level security;
comment on table entities is 'the mirror: a row for each entity that a worker has read';
comment on column entities.id is 'key_id(key)';
comment on column entities.mirrored_at is 'when a worker first read the entity';
comment on column entities.embedding is 'the vector that the app made; its model has the source''s name';
-- Without the id, as a transaction mirrors many entities at one instant: an index keeps equal entries once.
create index entities_mirrored_at_idx on entities (source, mirrored_at);
create index entities_properties_idx on entities using gin (properties jsonb_path_ops);
create index entities_user_key_idx on entities using hash (user_key);

create table items (
    source text not null,
    id uuid not null,
    entity uuid not null,
    key text collate "C" not null,
    content text,
    content_hash bytea,
    -- The source comes last here and in the index below, so that no plan made while the table was empty finds all items of a
    -- source by them.
    constraint items_pkey primary key (id, source),
    constraint items_entity_fkey foreign key (source, entity) references entities (source, id) on delete cascade
);
alter table items enable row level security;
comment on table items is 'the pictures or the text of each entity';
comment on column items.id is 'key_id(key)';
comment on column items.key is 'a picture''s own key; the entity''s key if it has one item';
comment on column items.content is 'a picture''s URL; null for texts';
comment on column items.content_hash is 'SHA-256 of the text; null for pictures';
create index items_entity_idx on items (entity, source);

-- Records of what changed, for workers that hold images between jobs. A crash empties the table, and ends their sessions.

create unlogged table entity_changes (
    source text not null,
    entity uuid,
    tail integer,
    transaction xid8 not null default pg_current_xact_id(),
    changed_at timestamptz not null default now()
);
alter table entity_changes enable row level security;
comment on table entity_changes is 'the entities whose images, vectors or properties changed; records are kept for an hour';
comment on column entity_changes.entity is 'null with tail null: any entity of the source may have changed';
comment on column entity_changes.tail is 'the last two bytes of the id of an entity that was deleted or lost an item: no trace of the id itself may stay';
create index entity_changes_entity_idx on entity_changes (source, entity) where entity is not null;
create index entity_changes_transaction_idx on entity_changes (source, transaction);

-- What models made.

create table model_probes (
    model text not null constraint model_probes_model_fkey references embedding_models (name) on update cascade on delete cascade,
    probe text not null,
    embedding real[] not null,
    least double precision not null,
    similarity double precision not null default 1,
    kept_at timestamptz not null default now(),
    looked_at timestamptz not null default now(),
    constraint model_probes_pkey primary key (model, probe),
    constraint model_probes_probe_allowed check (probe in ('text', 'picture'))
);
alter table model_probes enable row level security;
comment on table model_probes is 'the first vector that a model gave a fixed input, and how similar today''s is: a provider may change a model under its name';
comment on column model_probes.least is 'vectors with at least this similarity are the same';

create table embeddings (
    source text not null,
    item uuid not null,
    model text not null,
    dimensions integer not null,
    embedding vector,
    attributes jsonb not null default '{}',
    input text,
    input_hash bytea,
    thumbnail bytea,
    vision_model text,
    input_tokens integer,
    output_tokens integer,
    embedded_at timestamptz not null default now(),
    version text,
    looked_at timestamptz not null default now(),
    more vector[] not null default '{}',
    halves halfvec[],
    constraint embeddings_pkey primary key (source, item, model),
    constraint embeddings_item_fkey foreign key (source, item) references items (source, id) on delete cascade,
    -- The foreign key fixes `dimensions` to the model's. The check fixes the vector to `dimensions`.
    constraint embeddings_model_fkey foreign key (model, dimensions) references embedding_models (name, dimensions) on update cascade,
    constraint embeddings_either check ((embedding is null) = (halves is not null)),
    constraint embeddings_dimensions check (coalesce(vector_dims(embedding), vector_dims(halves[1])) = dimensions),
    constraint embeddings_not_zero check (coalesce(vector_norm(embedding), l2_norm(halves[1])) > 0)
);
-- as of `entities`
alter table embeddings alter column embedding set storage main, alter column halves set storage main;
alter table embeddings set (toast_tuple_target = 2720);
alter table embeddings enable row level security;
comment on column embeddings.more is 'for a text that is longer than the model accepts, the vectors of its further parts; `embedding` is the vector of the first one';
comment on column embeddings.halves is 'for a model whose name ends in @float16, the vectors of all parts in half precision, instead of `embedding` and `more`';
comment on column embeddings.input is 'the URL that was fetched: if the item''s is another, the row is out of date';
comment on column embeddings.input_hash is 'SHA-256 of the picture''s bytes or of the text: equal inputs are embedded once';
comment on column embeddings.version is 'the host''s name for this version of the picture: an ETag, which has quotes, or a date';
comment on column embeddings.looked_at is 'when the picture was fetched, or its host said that it was the same';
comment on column embeddings.vision_model is 'the model that described the picture, if another model made the embedding';
comment on column embeddings.input_tokens is 'the tokens for describing the picture, counted once for equal pictures';
create index embeddings_attributes_idx on embeddings using gin (to_tsvector('simple', attributes)) where attributes <> '{}';
create index embeddings_input_hash_idx on embeddings (input_hash, model) where input_hash is not null;
