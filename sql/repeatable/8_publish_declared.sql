-- The statements that publish a matcher's pairs into a table of the app, and whether they fit it.

-- The columns of the app's table that a matcher fills. Those of `is_key` name the row of a pair. The type is the column's own.
-- `left_source` and `right_source` are the declarations of the sources, by default those that are attached.
create or replace function published_columns(matcher jsonb, left_source jsonb default null, right_source jsonb default null)
returns table (field text, name text, is_key boolean, type text, family text, given_family text, expression text)
language sql stable set search_path from current as $$
    select field, declared.name, field in ('left', 'right', 'matcher'),
        -- a cast to varchar(3) would cut a text off; a cast to numeric(5, 4) rounds as the column does
        format_type(atttypid, case when typcategory = 'S' then -1 else atttypmod end),
        case when typname = 'uuid' then 'uuid' else typcategory::text end,
        case
            when field in ('similarity', 'rank', 'right_rank') then 'N'
            when field in ('model', 'matcher') then 'S'
            when field = 'computed_at' then 'D'
            when given.type = 'uuid' then 'uuid'
            when given.type in ('smallint', 'integer', 'bigint') then 'N'
            else 'S'
        end,
        case field
            when 'left' then 'left_key' when 'right' then 'right_key' when 'rank' then 'left_rank'
            when 'left_item' then exposed_item('left', matcher ->> 'left', given.type)
            when 'right_item' then exposed_item('right', matcher ->> 'right', given.type)
            when 'matcher' then quote_literal(matcher ->> 'name')
            else field
        end
    from jsonb_each_text(matcher #> '{publish,columns}') as declared (field, name)
    left join pg_attribute on attrelid = declared_table(matcher #>> '{publish,table}') and attname = declared.name
        and attnum > 0 and not attisdropped
    left join pg_type on pg_type.oid = atttypid
    cross join lateral (
        select declared_key_type(coalesce(
            case when field like 'left%' then left_source else right_source end,
            (select declaration from sources where sources.name = matcher ->> case when field like 'left%' then 'left' else 'right' end)
        ), field like '%item') as type
    ) as given
    where declared.name is not null
$$;

-- All parts of a declared publication that do not fit the app's table.
create or replace function publication_problems(matcher jsonb, left_source jsonb default null, right_source jsonb default null)
returns setof text
language plpgsql stable set search_path from current as $$
declare
    declared text := matcher #>> '{publish,table}';
    target regclass := watchable_table(matcher #>> '{publish,table}');
begin
    return query
    select format('matcher %s: publish: %s', matcher ->> 'name', problem)
    from (
        select table_problem(declared) as problem
        union all
        select column_problem(target, name, false) from published_columns(matcher) where target is not null
        union all
        select format('%I of %s is a %s, which takes no %s', name, qualified(target), type, replace(field, '_', ' '))
        from published_columns(matcher, left_source, right_source) where family is not null and family not in ('S', given_family)
        union all
        select format('%I of %s is generated, and cannot be written', attname, qualified(target))
        from pg_attribute join published_columns(matcher) on name = attname
        where attrelid = target and (attgenerated <> '' or attidentity = 'a')
        union all
        select format('%I of %s must not be null, and nothing fills it: give it a default', attname, qualified(target))
        from pg_attribute
        where attrelid = target and attnum > 0 and not attisdropped and attnotnull and not atthasdef and attidentity = ''
          and attname not in (select name from published_columns(matcher))
          -- a trigger of the app may fill it
          and not exists (select from pg_trigger where tgrelid = target and not tgisinternal and tgtype & 7 = 7)
        union all
        select format('%s may not %s %s', current_user, wanted, qualified(target))
        from unnest(array['select', 'insert', 'update', 'delete']) as wanted
        where target is not null and not has_table_privilege(target, wanted) and (wanted <> 'delete' or matcher #>> '{publish,removed}' = 'delete')
        union all
        select format('row-level security would hide rows of %s from %s: attach as its owner, or as a role with bypassrls', qualified(target), current_user)
        where row_security_active(target)
    ) as found
    where problem is not null;
end
$$;

-- The statement that writes pairs `origin` into the app's table: it updates rows that differ, in the order of their keys, and inserts those that are
-- missing. All writers of rows take them in this order. With `holds` it looks whether the missing pairs still exist, and locks them against deletion.
create or replace function publishing_statement(matcher jsonb, origin text, holds boolean) returns text
language plpgsql stable set search_path from current as $$
declare
    target text := qualified(declared_table(matcher #>> '{publish,table}'));
    columns text;
    wanted text;
    keys text;
    same_pair text;
    differs text;
    sets text;
begin
    select string_agg(format('%I', name), ', ' order by field), string_agg(format('(%s)::%s as %I', expression, type, name), ', ' order by field),
        string_agg(format('wanted.%I', name), ', ' order by field) filter (where is_key),
        string_agg(format('app.%1$I = wanted.%1$I', name), ' and ' order by field) filter (where is_key),
        string_agg(format('app.%1$I is distinct from wanted.%1$I', name), ' or ' order by field) filter (where not is_key),
        string_agg(format('%1$I = wanted.%1$I', name), ', ' order by field) filter (where not is_key)
    into columns, wanted, keys, same_pair, differs, sets
    from published_columns(matcher);
    return format('with wanted as materialized (select pair.id as matching_pipeline_id, %s from %s)', wanted, origin)
        || case when sets is null then '' else format(
            ', held as materialized (select wanted.* from %1$s as app join wanted on %2$s where %3$s order by %4$s for no key update of app)'
            ', changed as (update %1$s as app set %5$s from held as wanted where %2$s)',
            target, same_pair, differs, keys, sets
        ) end
        || case when holds then format(
            ', missing as materialized (select pair.id as matching_pipeline_id from matching_pipeline.matches as pair '
            'where id in (select matching_pipeline_id from wanted where not exists (select from %s as app where %s)) '
            'order by id for key share)', target, same_pair
        ) else '' end
        || format(
            ' insert into %s (%s) select %s from wanted %s order by %s', target, columns,
            (select string_agg(format('wanted.%I', name), ', ' order by field) from published_columns(matcher)),
            case when holds then 'join missing using (matching_pipeline_id)'
                else format('where not exists (select from %s as app where %s)', target, same_pair) end,
            keys
        );
end
$$;

-- The statement that removes the rows of pairs of `origin`. It keeps the keys of rows that another session has locked.
create or replace function removing_statement(matcher jsonb, origin text) returns text
language sql stable set search_path from current as $$
    select format(
        'with gone as materialized (select id as matching_pipeline_id, left_key as matching_pipeline_left, '
        'right_key as matching_pipeline_right, %1$s from %2$s as pair where pair.matcher = %3$L)'
        ', held as materialized (select gone.* from %4$s as app join gone on %5$s order by %6$s for update of app skip locked)'
        ', deleted as (delete from %4$s as app using held as gone where %5$s)'
        ', owed as (insert into matching_pipeline.unpublished_pairs (matcher, left_key, right_key) '
        'select distinct %3$L, matching_pipeline_left, matching_pipeline_right from %4$s as app join gone on %5$s '
        'where matching_pipeline_id not in (select matching_pipeline_id from held) on conflict do nothing returning 1)'
        ' select count(*) from owed',
        string_agg(format('(%s)::%s as %I', expression, type, name), ', ' order by field), origin, matcher ->> 'name',
        qualified(declared_table(matcher #>> '{publish,table}')), string_agg(format('app.%1$I = gone.%1$I', name), ' and ' order by field),
        string_agg(format('gone.%I', name), ', ' order by field)
    )
    from published_columns(matcher) where is_key
$$;

-- The statements that `publications` keeps. There are none that remove rows if the rows of removed pairs are to stay.
create or replace function publication_statements(matcher jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    matcher_name text := matcher ->> 'name';
    target text := qualified(declared_table(matcher #>> '{publish,table}'));
    keys text;
    same_pair text;
    asked text := 'unnest($1::text[], $2::text[]) as asked (%1$sleft_key, %1$sright_key)';
    stands text := format('pair.matcher = %L and pair.left_id = matching_pipeline.key_id(asked.%%1$sleft_key) '
        'and pair.right_id = matching_pipeline.key_id(asked.%%1$sright_key)', matcher ->> 'name');
begin
    select string_agg(format('(%s)::%s as %I', expression, type, name), ', ' order by field), string_agg(format('app.%1$I = gone.%1$I', name), ' and ' order by field)
    into keys, same_pair from published_columns(matcher) where is_key;
    return jsonb_build_object(
        'changed', publishing_statement(matcher, format('new_rows as pair where pair.matcher = %L', matcher_name), false),
        'pairs', publishing_statement(matcher, format(asked || ' join matching_pipeline.matches as pair on ' || stands, 'asked_'), true),
        'range', publishing_statement(matcher, format('matching_pipeline.matches as pair where pair.matcher = %L '
            'and ($1 is null or pair.left_id > $1) and ($2 is null or pair.left_id <= $2)', matcher_name), true)
    ) || case when matcher #>> '{publish,removed}' = 'keep' then '{}' else jsonb_build_object(
        'lost', removing_statement(matcher, 'old_rows'),
        'emptied', removing_statement(matcher, 'matching_pipeline.matches'),
        'gone', format('delete from %1$s as app using (select %2$s from %3$s where not exists ('
            'select from matching_pipeline.matches as pair where %4$s)) as gone where %5$s', target, keys, format(asked, ''), format(stands, ''), same_pair)
    ) end;
end
$$;

-- The foreign keys of rows of pairs that keep the app from deleting the rows that they name. They act before our triggers do.
create or replace function refusing_keys(matcher jsonb) returns table (name text, referenced text)
language sql stable set search_path from current as $$
    select format('%I of %s', conname, qualified(conrelid)), qualified(confrelid)
    from pg_constraint
    where contype = 'f' and conparentid = 0 and conrelid = declared_table(matcher #>> '{publish,table}') and confdeltype in ('a', 'r')
      and exists (
          select from published_columns(matcher) as published
          join pg_attribute on attrelid = conrelid and attname = published.name and attnum = any (conkey)
          where field in ('left', 'right', 'left_item', 'right_item')
      )
    order by conname
$$;

-- Begins, changes or ends the publication of an attached matcher. If none is left, there are no triggers for it.
create or replace function attach_publication(matcher_name text) returns void
language plpgsql set search_path from current as $$
declare
    declared jsonb := (select declaration from matchers where name = matcher_name);
    wanted jsonb;
    refusing record;
begin
    if declared ->> 'publish' is null then
        delete from publications where matcher = matcher_name;
        delete from unpublished_pairs where matcher = matcher_name;
    else
        wanted := publication_statements(declared);
        if not exists (select from publications where matcher = matcher_name and statements = wanted) then
            insert into publications (matcher, statements) values (matcher_name, wanted)
            on conflict on constraint publications_pkey do update set statements = excluded.statements;
            if exists (select from matches where matcher = matcher_name) then
                perform keep_unpublished(matcher_name, null, null, null);
            end if;
        end if;
        if exists (select from unpublished_pairs where matcher = matcher_name) then
            perform enqueue_publishing(matcher_name);
        end if;
        if not exists (
            select from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0]
            where indrelid = declared_table(declared #>> '{publish,table}')
              and attname in (declared #>> '{publish,columns,left}', declared #>> '{publish,columns,right}')
        ) then
            raise warning 'matcher %: publish: no index of % begins with % or %, so each pair is looked for in the whole table',
                matcher_name, declared #>> '{publish,table}', declared #>> '{publish,columns,left}', declared #>> '{publish,columns,right}';
        end if;
        for refusing in select * from refusing_keys(declared) loop
            raise warning 'matcher %: publish: % refers to %: while a row there has pairs, your app cannot delete it: give the constraint on delete cascade',
                matcher_name, refusing.name, refusing.referenced;
        end loop;
    end if;
end
$$;

create or replace function make_publishing_triggers() returns void
language plpgsql set search_path from current as $$
declare
    is_needed boolean := exists (select from publications);
begin
    if is_needed = exists (select from pg_trigger where tgrelid = 'matches'::regclass and tgname = 'matches_publish_insert') then
        return;
    elsif is_needed then
        create trigger matches_publish_insert after insert on matches
            referencing new table as new_rows for each statement execute function matches_published();
        create trigger matches_publish_update after update on matches
            referencing new table as new_rows for each statement execute function matches_published();
        create trigger matches_publish_delete after delete on matches
            referencing old table as old_rows for each statement execute function matches_published();
        create trigger matches_publish_truncate before truncate on matches
            for each statement execute function matches_published();
    else
        drop trigger matches_publish_insert on matches;
        drop trigger matches_publish_update on matches;
        drop trigger matches_publish_delete on matches;
        drop trigger matches_publish_truncate on matches;
    end if;
end
$$;
