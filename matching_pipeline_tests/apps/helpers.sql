-- What the twelve apps fill their tables with: everything follows from a number.

create function uuid_at(n bigint) returns uuid language sql immutable as $$ select lpad(to_hex(n), 32, '0')::uuid $$;

create function vector_at(n bigint, size integer) returns real[] language sql immutable as $$
    select array(select sin(n * 37.1 + d * d * 0.017 * n)::real from generate_series(1, size) as d)
$$;

create function words_at(n bigint) returns text language sql immutable as $$
    select format('work%s tools%s place%s level%s', n % 13, n % 17, n % 7, n % 5)
$$;
