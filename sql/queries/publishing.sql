-- Pairs that a table of the app lacks: matching_pipeline/handlers/publishing.py.

-- name: publication_states
select * from matching_pipeline.publication_states() order by matcher

-- name: compared_pairs
-- the rows that mean all pairs of the matcher
select id from matching_pipeline.unpublished_pairs where matcher = %(matcher)s and left_key is null

-- name: resume_publication
select matching_pipeline.resume_publication(%(matcher)s)

-- name: publish_range
select matching_pipeline.publish_range(%(matcher)s, %(after)s, %(size)s)

-- name: forget_comparison
delete from matching_pipeline.unpublished_pairs where id = any (%(ids)s)

-- name: unpublished_pairs
select id, left_key, right_key from matching_pipeline.unpublished_pairs
where matcher = %(matcher)s and left_key is not null and id > %(after)s
order by id limit %(size)s

-- name: publish_kept_pairs
select matching_pipeline.publish_pairs(%(matcher)s, %(left)s, %(right)s)

-- name: publishing_refused
-- why pairs are still not published, after a worker tried
select coalesce(reason, 'its rows are locked') from matching_pipeline.unpublished_pairs
where matcher = %(matcher)s order by left_key is not null, id limit 1

-- name: set_kept_status
select matching_pipeline.set_kept_status(%(source)s, %(kind)s, %(key)s)

-- name: enqueue_due_publications
select matching_pipeline.enqueue_due_publications()
