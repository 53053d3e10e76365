-- The vectors, where pgvector was dropped with the schema that it was in: its type went from our table too.

do $$
begin
    if not exists (
        select from pg_attribute where attrelid = 'embeddings'::regclass and attname = 'embedding' and not attisdropped
    ) then
        raise warning 'pgvector was dropped, and all embeddings with it: they are computed again by the nightly job, or now by `matching-pipeline process --missing`';
        truncate embeddings;
        alter table embeddings
            add column embedding vector not null,
            add column more vector[] not null default '{}',
            add constraint embeddings_dimensions check (vector_dims(embedding) = dimensions),
            add constraint embeddings_not_zero check (vector_norm(embedding) > 0);
    end if;
end
$$;
