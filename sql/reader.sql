-- A role that may read all that the pipeline keeps and write nothing, such as for the gallery on another machine. The owner of the
-- schema `matching_pipeline` runs this file after `matching-pipeline migrate`, and again after each upgrade. Then:
--   alter role matching_pipeline_reader login password '...';

do $$
declare
    name text;
    vector_schema regnamespace := (select extnamespace from pg_extension where extname = 'vector');
begin
    if to_regrole('matching_pipeline_reader') is null then
        create role matching_pipeline_reader;
    end if;
    if not has_database_privilege('matching_pipeline_reader', current_database(), 'connect') then
        execute format('grant connect on database %I to matching_pipeline_reader', current_database());
    end if;
    grant usage on schema matching_pipeline to matching_pipeline_reader;
    if not has_schema_privilege('matching_pipeline_reader', vector_schema::oid, 'usage') then
        execute format('grant usage on schema %s to matching_pipeline_reader', vector_schema);
    end if;
    for name in select tablename from pg_tables where schemaname = 'matching_pipeline' loop
        execute format('grant select on matching_pipeline.%I to matching_pipeline_reader', name);
        if not exists (
            select from pg_policy where polrelid = format('matching_pipeline.%I', name)::regclass and polname = 'matching_pipeline_reads'
        ) then
            execute format('create policy matching_pipeline_reads on matching_pipeline.%I for select to matching_pipeline_reader using (true)', name);
        end if;
    end loop;
    grant select on matching_pipeline.embedded_items to matching_pipeline_reader;
    for name in
        select pg_proc.oid::regprocedure from pg_proc
        where pronamespace = 'matching_pipeline'::regnamespace and prorettype <> 'trigger'::regtype
          -- Only a volatile function can write. The functions that run with their owner's rights are named here: they only read.
          and ((provolatile <> 'v' and not prosecdef) or proname in ('read_source', 'excepted_values', 'paused_until'))
    loop
        execute format('grant execute on function %s to matching_pipeline_reader', name);
    end loop;
end
$$;
