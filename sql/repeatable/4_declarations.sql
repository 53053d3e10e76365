-- The tables and columns that a declaration names. Only the owner may run these functions.

-- The table that a declaration names; null if there is none.
create or replace function declared_table(declared text) returns regclass
language plpgsql stable set search_path from current as $$
begin
    return to_regclass(declared);
exception when others then
    return null;
end
$$;

-- The table's name with its schema, quoted if it must be.
create or replace function qualified(of_table regclass) returns text
language sql stable set search_path from current as $$
    select format('%I.%I', nspname, relname)
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace where pg_class.oid = of_table
$$;

create or replace function column_type(of_table regclass, column_name text) returns text
language sql stable set search_path from current as $$
    select format_type(atttypid, -1) from pg_attribute
    where attrelid = of_table and attname = column_name and attnum > 0 and not attisdropped
$$;

-- The columns of tables that a statement reads, as Postgres itself sees it. Raises if the statement is wrong.
create or replace function all_columns_read(statement text, out types text[], out tables regclass[], out columns text[])
language plpgsql set search_path from current as $$
begin
    execute 'create temporary view matching_pipeline_reads as ' || statement;
    types := array(
        select format_type(case typtype when 'd' then typbasetype else atttypid end, null)
        from pg_attribute join pg_type on pg_type.oid = atttypid
        where attrelid = 'pg_temp.matching_pipeline_reads'::regclass and attnum > 0 order by attnum
    );
    with read as (
        select distinct refobjid::regclass as of_table, refobjsubid as attnum
        from pg_rewrite join pg_depend on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid and refclassid = 'pg_class'::regclass
        where ev_class = 'pg_temp.matching_pipeline_reads'::regclass and refobjid <> ev_class
    ), with_inputs as (
        select of_table, attnum from read
        union
        -- a virtual generated column has no value in a trigger: the columns that it is computed from are taken instead
        select of_table, refobjsubid from read
        join pg_attribute on attrelid = of_table and pg_attribute.attnum = read.attnum and attgenerated = 'v'
        join pg_attrdef on adrelid = of_table and adnum = read.attnum
        join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid and refclassid = 'pg_class'::regclass
            and refobjid = of_table and refobjsubid > 0
    )
    select array_agg(of_table), array_agg(attname::text) into tables, columns
    from with_inputs
    join pg_attribute on attrelid = of_table and pg_attribute.attnum > 0 and not attisdropped and attgenerated <> 'v'
        -- 0 means the whole row
        and (with_inputs.attnum = pg_attribute.attnum
            or with_inputs.attnum = 0 and not exists (select from with_inputs as named where named.of_table = with_inputs.of_table and named.attnum > 0));
    drop view pg_temp.matching_pipeline_reads;
end
$$;

create or replace function columns_read(statement text, of_table regclass) returns text[]
language sql set search_path from current as $$
    select array(
        select distinct name from all_columns_read(statement), unnest(tables, columns) as read (its_table, name) where its_table = of_table
    )
$$;
