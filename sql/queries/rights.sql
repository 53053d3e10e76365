-- name: other_owner
select current_user, relowner::regrole::text from pg_class
where oid = to_regclass('matching_pipeline.migrations') and not pg_has_role(relowner, 'usage')
