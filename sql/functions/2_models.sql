-- Which model works in which lane: the active one of a modality in the stage's own lane, and a shadow, where there is one,
-- in `<lane>_shadow`, so that a slow or failing shadow never holds the active one up.

create or replace function queue_model(lane text) returns text
language sql stable as $$
    select name from embedding_models
    where modality = case split_part(lane, '_shadow', 1) when 'image_ai' then 'image' when 'job_embeddings' then 'text' end
      and status = case when lane like '%\_shadow' then 'shadow' else 'active' end
$$;

-- A stage's own lane, also before its first model, and its shadow's where there is one.
create or replace function model_lanes(stage text) returns table (lane text, model text)
language sql stable as $$
    select stage, queue_model(stage)
    union all
    select shadow.lane, queue_model(shadow.lane) from (values (stage || '_shadow')) as shadow (lane)
    where queue_model(shadow.lane) is not null
$$;

-- Owes the same to the active model and to the shadow, always both: so work that is not committed when the two change
-- places is owed to both afterwards. Returns for how many the active one.
create or replace function enqueue_for_models(stage text, kind text, ids uuid[]) returns integer
language sql as $$
    select owed from (
        select lane, enqueue_jobs(lane, kind, ids) as owed from model_lanes(stage) offset 0
    ) as each
    order by lane = stage desc limit 1
$$;
