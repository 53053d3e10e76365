-- Searches by vector. They are exact, and use the active model.

-- The entities whose best item is nearest to any of these vectors, by cosine, with that item.
create or replace function find_near(source_name text, sought vector[], match_count integer default 10)
returns table (id uuid, key text, item_key text, content text, similarity double precision)
language sql stable set search_path from current as $$
    select entities.id, entities.key, best.key, best.content, 1 - best.distance
    from (
        select distinct on (items.entity) items.entity, items.key, items.content, near.distance
        from items
        join embeddings on embeddings.source = items.source and embeddings.item = items.id
        cross join lateral (
            select min(part.embedding <=> one.direction) as distance
            from vectors_of(embedding, more, halves) as part (embedding), unnest(sought) as one (direction)
        ) as near
        where items.source = source_name and embeddings.model = (select source_model(source_name))
        order by items.entity, near.distance, items.id
    ) as best
    join entities on entities.source = source_name and entities.id = best.entity
    order by best.distance, entities.key
    limit greatest(coalesce(match_count, 10), 0)
$$;

-- The entities with the nearest pictures to this vector. Runs with its owner's rights: a role that searches needs only the right to execute this
-- function.
create or replace function find_similar_images(source_name text, embedding vector, match_count integer default 10)
returns table (key text, image_key text, image_url text, similarity double precision)
language sql stable security definer set search_path from current as $$
    select near.key, near.item_key, near.content, near.similarity
    from find_near(source_name, array[embedding], match_count) as near
    where source_modality(source_name) = 'image'
$$;

-- The entities of this source, or of `of_source`, whose pictures are nearest to those of an entity. The entity itself is left out.
create or replace function find_similar_images(source_name text, entity_key text, match_count integer default 10, of_source text default null)
returns table (key text, image_key text, image_url text, similarity double precision)
language sql stable security definer set search_path from current as $$
    select near.key, near.item_key, near.content, near.similarity
    from find_near(source_name, array(
        select part.embedding
        from items
        join embeddings on embeddings.source = items.source and embeddings.item = items.id
        cross join vectors_of(embedding, more, halves) as part (embedding)
        where items.source = coalesce(of_source, source_name) and items.entity = key_id(entity_key)
          and embeddings.model = source_model(source_name)
    ), greatest(coalesce(match_count, 10), 0) + 1) as near
    where source_modality(source_name) = 'image' and near.similarity is not null
      and (near.key <> entity_key or coalesce(of_source, source_name) <> source_name)
    limit greatest(coalesce(match_count, 10), 0)
$$;
