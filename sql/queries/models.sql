-- name: register_model
insert into embedding_models (name, modality, dimensions, status)
select %(name)s, %(modality)s, %(dimensions)s,
    case when exists (select from embedding_models where modality = %(modality)s and status = 'active') then 'shadow' else 'active' end
on conflict do nothing

-- name: embedding_model
select dimensions, status from embedding_models where name = %(name)s and modality = %(modality)s
