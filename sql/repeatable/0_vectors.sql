-- Adds the columns of vectors again if pgvector was dropped with its schema, which removes them from our table.

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
