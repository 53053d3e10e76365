-- What belongs together. One table for every kind of pair: an exclusive arc, held by checks.

create table match_settings (
    kind text constraint match_settings_pkey primary key,
    threshold double precision not null default 0.5,
    match_limit integer not null default 20,
    attribute_weight double precision not null default 0.2,
    constraint match_settings_kind_allowed check (kind in ('project')),
    constraint match_settings_threshold_range check (threshold between -1 and 1),
    constraint match_settings_limit_positive check (match_limit > 0),
    constraint match_settings_weight_range check (attribute_weight between 0 and 1)
);
alter table match_settings enable row level security;
comment on table match_settings is 'what `matches` means, a row a kind; a change re-computes every entity of the kind through the queue';
insert into match_settings (kind) values ('project');

create table matches (
    id uuid constraint matches_pkey primary key default gen_random_uuid(),
    kind text not null,
    project_id uuid constraint matches_project_id_fkey references listings (id) on delete cascade on update cascade,
    product_id uuid constraint matches_product_id_fkey references products (id) on delete cascade on update cascade,
    project_image_id uuid constraint matches_project_image_id_fkey references listing_images (id) on delete cascade on update cascade,
    product_image_id uuid constraint matches_product_image_id_fkey references product_images (id) on delete cascade on update cascade,
    similarity double precision not null,
    rank integer,
    model text not null constraint matches_model_fkey references embedding_models (name) on update cascade,
    computed_at timestamptz not null default now(),
    constraint matches_kind_allowed check (kind in ('project')),
    constraint matches_project_columns_set check (
        (kind = 'project') = (num_nonnulls(project_id, product_id, project_image_id, product_image_id, rank) = 5)
    ),
    constraint matches_similarity_range check (similarity between -1 and 1),
    constraint matches_rank_positive check (rank > 0),
    constraint matches_project_rank_key unique (project_id, rank) deferrable initially deferred
);
alter table matches enable row level security;
comment on column matches.project_image_id is 'with product_image_id: the two images whose score is the pair''s';

create unique index matches_project_product_key on matches (project_id, product_id) where kind = 'project';
create index matches_product_id_idx on matches (product_id);
-- A cascade from an image finds its rows by these.
create index matches_project_image_id_idx on matches (project_image_id);
create index matches_product_image_id_idx on matches (product_image_id);

insert into matching_pipeline_migrations (name) values ('0004_matches');
