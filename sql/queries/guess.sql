-- name: tables_of_the_app
-- each table with its columns, its key, and what its foreign keys point to
select nspname as schema, relname as "table", has_key.columns as key,
    (
        -- the columns in their order
        select coalesce(json_object_agg(attname, jsonb_build_object('type', format_type(atttypid, null), 'words', (
            select jsonb_agg(enumlabel order by enumsortorder) from pg_enum where enumtypid = atttypid
        ), 'is_required', attnotnull and not atthasdef and attidentity = '') order by attnum), '{}')
        from pg_attribute where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    ) as columns,
    (
        select coalesce(jsonb_agg(jsonb_build_object('table', other.relname, 'schema', other_schema.nspname, 'columns', (
            select jsonb_agg(attname order by place) from unnest(conkey) with ordinality as part (number, place)
            join pg_attribute on attrelid = conrelid and attnum = number
        ), 'key', (
            select jsonb_agg(attname order by place) from unnest(confkey) with ordinality as part (number, place)
            join pg_attribute on attrelid = confrelid and attnum = number
        )) order by conname), '[]')
        from pg_constraint
        join pg_class as other on other.oid = confrelid
        join pg_namespace as other_schema on other_schema.oid = other.relnamespace
        where contype = 'f' and conrelid = pg_class.oid and conparentid = 0
    ) as references
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
left join lateral (
    select array_agg(attname::text order by place) as columns
    from pg_index
    cross join unnest(indkey::smallint[]) with ordinality as part (number, place)
    join pg_attribute on attrelid = indrelid and attnum = number
    where indrelid = pg_class.oid and indisprimary
) as has_key on true
where relkind in ('r', 'p') and not relispartition and nspname !~ '^pg_' and nspname <> all (%(other_schemas)s)
order by nspname, relname
