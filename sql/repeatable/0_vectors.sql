-- Adds the columns of vectors again if pgvector was dropped with its schema, which removes them from our tables.

do $$
begin
    if not exists (
        select from pg_attribute where attrelid = 'embeddings'::regclass and attname = 'embedding' and not attisdropped
    ) then
        raise warning 'pgvector was dropped, and all embeddings with it: they are computed again by the nightly job, or now by `matching-pipeline process --missing`';
        truncate embeddings;
        alter table embeddings
            add column embedding vector,
            add column more vector[] not null default '{}',
            add column halves halfvec[],
            add constraint embeddings_either check ((embedding is null) = (halves is not null)),
            add constraint embeddings_dimensions check (coalesce(vector_dims(embedding), vector_dims(halves[1])) = dimensions),
            add constraint embeddings_not_zero check (coalesce(vector_norm(embedding), l2_norm(halves[1])) > 0);
        alter table entities
            add column embedding vector,
            add column dimensions integer generated always as (vector_dims(embedding)) stored,
            add constraint entities_model_fkey foreign key (source, dimensions) references embedding_models (name, dimensions),
            add constraint entities_not_zero check (vector_norm(embedding) > 0);
        alter table embeddings alter column embedding set storage main, alter column halves set storage main;
        alter table entities alter column embedding set storage main;
    end if;
end
$$;

-- All vectors of a row, as its model keeps them. Postgres inlines a call that has columns as arguments.
create or replace function vectors_of(embedding vector, more vector[], halves halfvec[]) returns setof vector
language sql immutable parallel safe
begin atomic
    select coalesce(embedding, halves[1]::vector)
    union all select unnest(more)
    union all select further::vector from unnest(halves[2:]) as further;
end;

create or replace function keep_halves() returns trigger
language plpgsql set search_path from current as $$
begin
    new.halves := array_prepend(new.embedding, new.more)::halfvec[];
    new.embedding := null;
    new.more := '{}';
    return new;
end
$$;
create or replace trigger keep_halves before insert or update of embedding on embeddings
    for each row when (new.embedding is not null and new.model like '%@float16') execute function keep_halves();

-- The embedded items of all entities. The item of an entity whose vector the app made is the entity itself. A condition on a column of another table
-- reaches no index here, unless it stands in a lateral subquery with `offset 0`.
create or replace view embedded_items with (security_invoker = true) as
select entities.source, entities.id as entity, entities.key as entity_key, entities.user_key, entities.properties, items.id as item,
    embeddings.model, embeddings.embedding, embeddings.more, embeddings.halves, embeddings.attributes
from entities
join items on items.source = entities.source and items.entity = entities.id
join embeddings on embeddings.source = items.source and embeddings.item = items.id
union all
select source, id, key, user_key, properties, id, source, embedding, '{}', null, '{}'
from entities where embedding is not null;
comment on view embedded_items is 'each item that has an embedding, by model; of a source whose vectors the app makes each entity';

-- The vector of an entity; null if it cannot be compared with the others of the source.
create or replace function comparable(source_name text, embedding vector) returns vector
language sql stable strict
begin atomic
    select comparable.embedding from embedding_models
    where name = source_name and dimensions = vector_dims(comparable.embedding) and vector_norm(comparable.embedding) > 0;
end;
