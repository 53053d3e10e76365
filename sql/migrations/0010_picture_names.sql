-- A picture's file is known by its name, which is the hash of its content, wherever it is.

drop index generated_images_url_idx;
create index generated_images_file_name_idx on generated_images (split_part(url, '/', -1));

insert into matching_pipeline_migrations (name) values ('0010_picture_names');
