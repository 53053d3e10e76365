-- Keys of one column or of several. The text of one column is the key. The key of several columns is a JSON array of their texts, as
-- jsonb writes it: ["7", "chair"]. A row that has a null in its key has no key.

-- The columns that a declaration names: one name, or a list.
create or replace function key_columns(declared jsonb) returns text[]
language sql immutable set search_path from current as $$
    select case jsonb_typeof(declared)
        when 'string' then array[declared #>> '{}']
        when 'array' then array(select jsonb_array_elements_text(declared))
    end
$$;

-- The SQL for the key of a row.
create or replace function key_text(row_name text, columns text[]) returns text
language sql immutable set search_path from current as $$
    select case when cardinality(columns) = 1 then format('(%I.%I)::text', row_name, columns[1])
        else format('case when num_nulls(%s) = 0 then jsonb_build_array(%s)::text end', string_agg(each.column, ', ' order by place),
            string_agg(each.column || '::text', ', ' order by place))
    end
    from (
        select format('%I.%I', row_name, name) as column, place from unnest(columns) with ordinality as named (name, place)
    ) as each
$$;

-- The SQL that is true if the key columns of two rows are equal.
create or replace function keys_equal(left_row text, left_columns text[], right_row text, right_columns text[]) returns text
language sql immutable set search_path from current as $$
    select string_agg(format('%I.%I = %I.%I', left_row, left_column, right_row, right_column), ' and ' order by place)
    from unnest(left_columns, right_columns) with ordinality as pair (left_column, right_column, place)
$$;

-- The SQL for each part of a key `text`, in the column's type.
create or replace function key_parts(columns text[], of_table regclass, text text) returns text[]
language sql stable set search_path from current as $$
    select array(
        select format(case when cardinality(columns) = 1 then '%1$s::%3$s' else '(%1$s::jsonb ->> %2$s)::%3$s' end,
            text, place - 1, column_type(of_table, name))
        from unnest(columns) with ordinality as named (name, place)
        order by place
    )
$$;

-- The SQL that is true of the row whose key is $1.
create or replace function key_is_asked(row_name text, columns text[], of_table regclass) returns text
language sql stable set search_path from current as $$
    select string_agg(format('%I.%I = %s', row_name, name, part), ' and ' order by place)
    from unnest(columns, key_parts(columns, of_table, '$1')) with ordinality as each (name, part, place)
$$;

-- The SQL that is true of the rows whose keys are among $1, found by the key's index.
create or replace function key_is_among(row_name text, columns text[], of_table regclass, asked text default '$1') returns text
language sql stable set search_path from current as $$
    select case when cardinality(columns) = 1 then format('%I.%I = any (%s::%s[])', row_name, columns[1], asked, column_type(of_table, columns[1]))
        else format('(%s) in (select %s from unnest(%s) as asked (key))', string_agg(format('%I.%I', row_name, name), ', ' order by place),
            array_to_string(key_parts(columns, of_table, 'asked.key'), ', '), asked)
    end
    from unnest(columns) with ordinality as named (name, place)
$$;

-- The SQL that is true of the rows whose keys other rows have, found by the key's index.
create or replace function key_is_in(row_name text, columns text[], other_rows text) returns text
language sql immutable set search_path from current as $$
    select case when cardinality(columns) = 1 then format('%1$I.%2$I = any (array(select %3$I.%2$I from %3$I))', row_name, columns[1], other_rows)
        else format('(%s) in (select %s from %I)', string_agg(format('%I.%I', row_name, name), ', ' order by place),
            string_agg(format('%I.%I', other_rows, name), ', ' order by place), other_rows)
    end
    from unnest(columns) with ordinality as named (name, place)
$$;

-- The columns in the order of the unique index that serves them, null if there is none.
create or replace function key_index_columns(of_table regclass, columns text[]) returns text[]
language sql stable set search_path from current as $$
    select indexed.names || array(select unnest(columns) except select unnest(indexed.names))
    from pg_index
    cross join lateral (
        select array_agg(attname::text order by place) as names
        from unnest(indkey::smallint[]) with ordinality as part (attnum, place)
        join pg_attribute on attrelid = indrelid and pg_attribute.attnum = part.attnum
        where place <= indnkeyatts
    ) as indexed
    where indrelid = of_table and indisunique and indimmediate and indisvalid and indpred is null and indexprs is null
      and indexed.names <@ columns
    order by cardinality(indexed.names) desc, indisprimary desc, indexrelid
    limit 1
$$;
