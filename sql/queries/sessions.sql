-- name: set_up_session
-- Sets what our statements rely on, whatever the database and the role set; says whether the server refuses writes; and finds
-- the type of vectors and of their arrays. Expressions of sources are compared as text, so all sessions write dates and numbers alike.
with vector as (
    select nspname, pg_type.oid, typarray
    from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
    left join pg_type on typnamespace = extnamespace and typname = extname
    where extname = 'vector'
)
select
    pg_is_in_recovery() and count(set_config(name, value, false)) > 0, (select oid from vector), (select typarray from vector)
from (
    values
    ('default_transaction_read_only', 'off'), ('default_transaction_isolation', 'read committed'),
    ('default_transaction_deferrable', 'off'), ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
    ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('standard_conforming_strings', 'on'),
    ('row_security', 'on'), ('client_min_messages', 'notice'), ('TimeZone', 'UTC'), ('DateStyle', 'ISO, MDY'),
    ('IntervalStyle', 'postgres'), ('bytea_output', 'hex'), ('extra_float_digits', '1'),
    ('search_path', (
        select concat_ws(', ', 'public', max(quote_ident(nspname))) from vector where nspname <> 'public'
    ))
) as relied (name, value)
-- a setting that this version of Postgres lacks has no value
where current_setting(name, true) is not null

-- name: limit_statements
select set_config('statement_timeout', %(limit)s, false)

-- name: limit_statements_here
select set_config('statement_timeout', %(limit)s, true)
