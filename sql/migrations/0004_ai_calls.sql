-- What is asked of AI providers: what each request cost, and what was answered.

create table ai_calls (
    id bigint generated always as identity constraint ai_calls_pkey primary key,
    queue text not null,
    model text not null,
    items integer not null,
    input_tokens integer not null default 0,
    output_tokens integer not null default 0,
    cost_usd numeric(14, 9) not null default 0,
    milliseconds integer not null,
    outcome text not null,
    request_id text,
    error text,
    created_at timestamptz not null default clock_timestamp(),
    constraint ai_calls_outcome_allowed check (
        outcome in ('answered', 'unusable', 'refused', 'rate limit', 'unavailable', 'configuration')
    ),
    constraint ai_calls_failed_requires_error check ((outcome = 'answered') = (error is null)),
    constraint ai_calls_figures_not_negative check (
        items > 0 and input_tokens >= 0 and output_tokens >= 0 and cost_usd >= 0 and milliseconds >= 0
    )
);
alter table ai_calls enable row level security;
comment on table ai_calls is 'one row for each request to a provider, failed ones too';
comment on column ai_calls.queue is 'the queue that the request served';
comment on column ai_calls.cost_usd is 'computed from the tokens that the answer states and the prices of the settings; zero if no answer came';

create index ai_calls_created_at_idx on ai_calls (created_at) include (queue, cost_usd);

create table ai_spending (
    day date constraint ai_spending_pkey primary key,
    spent_usd numeric(20, 9) not null default 0,
    reserved_usd numeric(20, 9) not null default 0,
    constraint ai_spending_not_negative check (spent_usd >= 0 and reserved_usd >= 0)
);
alter table ai_spending enable row level security;
comment on table ai_spending is 'the budget of each day in UTC, for all processes together';
comment on column ai_spending.reserved_usd is
    'the most that the requests under way may cost; of a process that was killed it stays, since its requests may have been paid for';

create table ai_answers (
    model text not null,
    input_hash bytea not null,
    answer bytea not null,
    input_tokens integer not null,
    output_tokens integer not null,
    created_at timestamptz not null default now(),
    constraint ai_answers_pkey primary key (model, input_hash)
);
-- floats do not compress: trying would cost every insert
alter table ai_answers alter column answer set storage external;
alter table ai_answers enable row level security;
comment on table ai_answers is 'the answers of providers, so that none is bought twice';
comment on column ai_answers.model is 'what answered and how it was asked: equal inputs have equal answers under it';
comment on column ai_answers.answer is 'an embedding as little-endian float32, JSON, or a picture''s file';

create index ai_answers_created_at_idx on ai_answers (created_at);

create table ai_cache_hits (
    day date not null,
    model text not null,
    answers bigint not null,
    constraint ai_cache_hits_pkey primary key (day, model)
);
alter table ai_cache_hits enable row level security;
comment on table ai_cache_hits is 'how many answers were found in `ai_answers`, and so not bought, on each day in UTC';

-- unlogged: after a crash no session waits for an answer
create unlogged table ai_asking (
    model text not null,
    input_hash bytea not null,
    asker integer not null,
    gone_at timestamptz,
    constraint ai_asking_pkey primary key (model, input_hash)
);
alter table ai_asking enable row level security;
comment on table ai_asking is 'inputs that are being asked; the answer is a row of `ai_answers` before the row here is deleted';
comment on column ai_asking.asker is 'the worker that asks, by the number that is `claimer` in `jobs`';
comment on column ai_asking.gone_at is 'when another worker saw that this one is gone; ten seconds later it asks instead';

