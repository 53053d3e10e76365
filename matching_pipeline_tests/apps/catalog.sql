-- All that some schemas hold, in Postgres' own words, without what we expose there.
with relations as (
    select * from pg_class
    where relnamespace = any (%(schemas)s::regnamespace[]) and obj_description(oid, 'pg_class') is distinct from 'exposed by matching_pipeline'
), functions as (
    select * from pg_proc
    where pronamespace = any (%(schemas)s::regnamespace[]) and obj_description(oid, 'pg_proc') is distinct from 'exposed by matching_pipeline'
)
select 'relation', concat_ws(' ', oid::regclass, relkind, relrowsecurity, relacl, reloptions) from relations
union
select 'column', concat_ws(' ', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attacl, pg_get_expr(adbin, adrelid))
from relations join pg_attribute on attrelid = relations.oid and attnum > 0
left join pg_attrdef on adrelid = attrelid and adnum = attnum
union
select 'constraint', concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid))
from relations join pg_constraint on conrelid = relations.oid
union
select 'index', pg_get_indexdef(indexrelid) from relations join pg_index on indrelid = relations.oid
union
select 'trigger', pg_get_triggerdef(pg_trigger.oid) from relations join pg_trigger on tgrelid = relations.oid where not tgisinternal
union
select 'policy', concat_ws(' ', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) from relations join pg_policy on polrelid = relations.oid
union
select 'function', concat_ws(' ', oid::regprocedure, proacl, prosrc) from functions
union
select 'type', concat_ws(' ', typname, typtype) from pg_type where typtype in ('e', 'd') and typnamespace = any (%(schemas)s::regnamespace[])
