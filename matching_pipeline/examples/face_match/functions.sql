-- The faces most like `query_embedding` for a user of this school and gender. Exact: no approximate index serves
-- it, because the candidates are filtered first and then ordered by an expression that no index holds.
create or replace function public.find_similar_faces_filtered(
    query_embedding vector,
    user_school text,
    user_gender text,
    match_threshold double precision default 0.5,
    match_count integer default 20
) returns table (face_id uuid, profile_id uuid, similarity double precision, image_url text)
language sql stable as $$
    with sought as (select l2_normalize(query_embedding) as direction),
    candidates as materialized (
        select theirs.id, theirs.user_id, least(-(theirs.direction <#> sought.direction), 1) as similarity, theirs.image_url
        from sought
        cross join public.profiles
        -- the faces are looked up by index, user by user; each vector is fetched and normalised once
        cross join lateral (
            select faces.id, faces.user_id, faces.image_url, l2_normalize(faces.embedding) as direction
            from public.faces
            where faces.user_id = profiles.id and faces.embedding is not null
            offset 0
        ) as theirs
        where profiles.school = user_school and profiles.profile_type = 'user'
          and profiles.gender = case user_gender when 'male' then 'female' when 'female' then 'male' end
          -- a vector of zeros has no direction, and is like nothing
          and sought.direction <#> sought.direction < -0.5 and theirs.direction <#> theirs.direction < -0.5
    )
    select id, user_id, candidates.similarity, candidates.image_url from candidates
    where candidates.similarity >= match_threshold
    order by candidates.similarity desc, id
    limit greatest(coalesce(match_count, 20), 0)
$$;
