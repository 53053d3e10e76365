-- A modality has at most one model that fills beside the active one. What stood as `shadow` until now was a model that the
-- settings chose and the registry refused: it must not begin to fill, and cost, by itself.

update embedding_models set status = 'retired' where status = 'shadow';

create unique index embedding_models_shadow_key on embedding_models (modality) where status = 'shadow';

insert into matching_pipeline_migrations (name) values ('0008_shadow_models');
