-- name: searched_sources
select name, matching_pipeline.source_modality(name) as modality
from matching_pipeline.sources
where attached_at is not null and matching_pipeline.source_modality(name) <> 'vector' and coalesce(name = %(source)s, true)
order by name

-- name: find_near
select key, content, similarity from matching_pipeline.find_near(%(source)s, %(sought)s::vector[], %(count)s)
