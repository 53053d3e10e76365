-- name: match_histogram
select count(matches.similarity)
from generate_series(1, 20) as bucket (number)
left join matching_pipeline.matches on matches.matcher = %(matcher)s
    and width_bucket(least(matches.similarity, 0.999999), 0, 1, 20) = bucket.number
group by bucket.number
order by bucket.number

-- name: pairs_that_do_not_hold
select count(*) filter (where matches.similarity < match_settings.threshold),
    count(*) filter (where embedding_models.status is distinct from 'active')
from matching_pipeline.matches
left join matching_pipeline.match_settings on match_settings.matcher = matches.matcher and match_settings.model = matches.model
left join matching_pipeline.embedding_models on embedding_models.name = matches.model
where matches.matcher = any (%(matchers)s::text[])

-- name: block_figures
with paired as (
    select left_id as id, true as counts, similarity from matching_pipeline.matches where matcher = %(matcher)s
    union all
    select right_id, false, similarity from matching_pipeline.matches where matcher = %(matcher)s
), members as (
    select id, same, properties -> opposite.name = opposite.one as is_one
    from matching_pipeline.matchable_entities(%(matcher)s)
    left join lateral (
        select first.key as name, first.value -> 0 as one
        from matching_pipeline.matchers, jsonb_each(declaration -> 'opposite') as first
        where matchers.name = %(matcher)s
        limit 1
    ) as opposite on true
)
select (select coalesce(string_agg(value, ', '), '') from jsonb_each_text(same)),
    count(distinct members.id) filter (where is_one), count(distinct members.id) filter (where not is_one),
    count(distinct paired.id), count(*) filter (where counts),
    coalesce(round(avg(similarity) filter (where counts)::numeric, 3)::text, '')
from members
left join paired on paired.id = members.id
group by same
order by count(*) filter (where counts) desc, same
limit %(count)s

-- name: newest_failures
select format('%%s %%s %%s', source, kind, key) as what,
    case status when 'failed' then 'failed' else 'will be tried again' end as status,
    error_message as because, id as item
from matching_pipeline.jobs
where queue = %(queue)s and error_message is not null
  and (status = 'failed' or status in ('pending', 'processing'))
order by coalesce(completed_at, started_at) desc nulls last
limit %(count)s

-- name: columns_of_table
select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)
from pg_attribute
where attrelid = to_regclass(%(table)s) and attnum > 0 and not attisdropped
order by attnum
