-- School dating: 1,000 users with a photo each. The embedding of a photo has 128 numbers in a float4[].

create table users (
    id serial primary key,
    email varchar(120) not null unique,
    school varchar(40),
    sex char(1) not null,
    deleted_at timestamp
);
create table user_photos (
    photo_id bigserial primary key,
    user_id integer not null references users on delete cascade,
    url varchar(200) not null,
    embedding float4[]
);
create index user_photos_user_idx on user_photos (user_id);

insert into users (id, email, school, sex)
select n, 'u' || n || '@school.test', 'School ' || n % 10, case when n / 10 % 2 = 0 then 'f' else 'm' end from generate_series(1, 1000) as n;
insert into user_photos (photo_id, user_id, url, embedding) select n, n, '/photos/' || n, vector_at(n, 128) from generate_series(1, 1000) as n;
select setval('users_id_seq', 1000), setval('user_photos_photo_id_seq', 1000);
