-- What belongs together.

create table matchers (
    name text constraint matchers_pkey primary key,
    queue text not null constraint matchers_queue_fkey references queues (name),
    left_source text not null constraint matchers_left_source_fkey references sources (name),
    right_source text not null constraint matchers_right_source_fkey references sources (name),
    declaration jsonb not null
);
alter table matchers enable row level security;

create table match_settings (
    matcher text not null constraint match_settings_matcher_fkey references matchers (name) on delete cascade,
    model text not null,
    threshold double precision not null,
    top integer not null,
    attribute_weight double precision not null,
    constraint match_settings_pkey primary key (matcher, model),
    constraint match_settings_threshold_range check (threshold between -1 and 1),
    constraint match_settings_top_positive check (top > 0),
    constraint match_settings_weight_range check (attribute_weight between 0 and 1)
);
alter table match_settings enable row level security;
comment on table match_settings is 'the numbers of each matcher under each model; after a change of the active model''s the workers compute every list of the matcher';
comment on column match_settings.threshold is 'the least score of a pair that is kept';
comment on column match_settings.top is 'the length of a list';
comment on column match_settings.attribute_weight is 'the weight of attributes in the score';
comment on column match_settings.model is 'empty before the first model, which takes the row';

create table matches (
    id uuid constraint matches_pkey primary key default gen_random_uuid(),
    matcher text not null,
    left_id uuid not null,
    right_id uuid not null,
    left_key text collate "C" not null,
    right_key text collate "C" not null,
    left_item uuid not null,
    right_item uuid not null,
    similarity double precision not null,
    left_rank integer,
    right_rank integer,
    model text not null,
    computed_at timestamptz not null default now(),
    constraint matches_similarity_range check (similarity between -1 and 1),
    constraint matches_ranks_positive check (left_rank > 0 and right_rank > 0),
    constraint matches_in_a_list check (num_nonnulls(left_rank, right_rank) > 0)
);
alter table matches enable row level security;
comment on table matches is 'the kept pairs; no foreign key checks them, as a worker locks both entities before it writes a pair';
comment on column matches.left_item is 'with right_item: the two items whose score is the pair''s';
comment on column matches.left_rank is 'the place of the right entity in the list of the left one, null if it has none';
comment on column matches.right_rank is 'the place of the left entity in the list of the right one, null if it has none or keeps no list';

create unique index matches_left_right_key on matches (left_id, right_id, matcher);
create index matches_right_id_idx on matches (right_id, matcher);

create table match_labels (
    matcher text not null,
    left_key text collate "C" not null,
    right_key text collate "C" not null,
    verdict smallint not null,
    by text not null default current_user,
    at timestamptz not null default now(),
    constraint match_labels_pkey primary key (matcher, left_key, right_key, by),
    constraint match_labels_verdict_range check (verdict between 0 and 3)
);
alter table match_labels enable row level security;
comment on table match_labels is 'what people say of pairs; the app writes here; no foreign key checks a label, as it is kept when its pair, its entities or its matcher are gone';
comment on column match_labels.left_key is 'with right_key: the keys of the two entities in the app, as text; within one source in either order';
comment on column match_labels.verdict is '0: they do not belong together, such as after a block; 1, 2 or 3: they belong together, and 3 is the best, such as a click, a like, a purchase';
comment on column match_labels.by is 'the person or the event that gave the verdict';

create table rebuilds (
    number bigint generated always as identity constraint rebuilds_pkey primary key,
    matcher text not null constraint rebuilds_matcher_fkey references matchers (name) on delete cascade,
    begun_by text,
    begun_at timestamptz not null default now()
);
alter table rebuilds enable row level security;
comment on table rebuilds is 'only the newest rebuild of a matcher may write: its number is drawn while no other session writes such pairs';
comment on column rebuilds.begun_by is 'the Dagster run, or the first of several that continue each other; null if a person began it';

create table rebuild_shards (
    rebuild bigint not null constraint rebuild_shards_rebuild_fkey references rebuilds (number) on delete cascade,
    place integer not null,
    entities integer not null,
    parts jsonb not null,
    figures jsonb,
    seconds double precision,
    constraint rebuild_shards_pkey primary key (rebuild, place)
);
alter table rebuild_shards enable row level security;
comment on table rebuild_shards is 'what a rebuild does in one step';
comment on column rebuild_shards.parts is 'the values of `same` of some blocks, null for the entities that are in none; for a part of a block, the left entities from `first` on and before `before`';
comment on column rebuild_shards.entities is 'how many entities it had when it was planned';
comment on column rebuild_shards.figures is 'with seconds: what it did to `matches` and how long that took, once it is done';

create table publications (
    matcher text constraint publications_pkey primary key
        constraint publications_matcher_fkey references matchers (name) on delete cascade,
    statements jsonb not null,
    compared_at timestamptz not null default now()
);
alter table publications enable row level security;
comment on table publications is 'the matchers whose pairs are written into a table of the app; only the owner writes here, because triggers run these statements with the owner''s rights';
comment on column publications.statements is 'SQL for pairs: `changed` writes those of a statement, `lost` removes them, `pairs` and `gone` do the same by key, `range` writes those of a range of left entities';
comment on column publications.compared_at is 'when the daily comparison with the app''s table was enqueued last';

create table unpublished_pairs (
    id bigint generated always as identity constraint unpublished_pairs_pkey primary key,
    matcher text not null,
    left_key text collate "C",
    right_key text collate "C",
    reason text,
    since timestamptz not null default now(),
    constraint unpublished_pairs_pair_key unique (matcher, left_key, right_key)
);
alter table unpublished_pairs enable row level security;
comment on table unpublished_pairs is 'pairs whose row in the app''s table is still to be written or removed; without keys, all pairs of the matcher';
comment on column unpublished_pairs.reason is 'why the app''s table refused; for all pairs, a fault of the table, for which publishing waits';
