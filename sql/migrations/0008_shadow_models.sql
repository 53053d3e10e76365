-- A modality has at most one model that embeds beside the active one. Until now `shadow` was the status of a model that
-- the settings chose and the registry refused: such a model must not begin to embed, and cost, by itself.

update embedding_models set status = 'retired' where status = 'shadow';

create unique index embedding_models_shadow_key on embedding_models (modality) where status = 'shadow';

insert into matching_pipeline_migrations (name) values ('0008_shadow_models');
