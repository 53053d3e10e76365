-- Everything in a schema `app`, pgvector in a third one, keys of several columns, and one table in partitions.

create table app.venues (city text, number smallint, is_open boolean not null default true, primary key (city, number));
create table app.rooms (
    city text not null,
    venue smallint not null,
    room integer not null,
    photo text,
    primary key (city, venue, room),
    foreign key (city, venue) references app.venues (city, number) on update cascade on delete cascade
) partition by list (city);
create table app.rooms_berlin partition of app.rooms for values in ('Berlin');
create table app.rooms_elsewhere partition of app.rooms default;
create table app."Artwork" ("artworkId" bigint primary key, feel vec.vector(3));
create table app."ArtworkImage" ("artworkId" bigint references app."Artwork" on delete cascade, place integer, bucket text, path text, primary key ("artworkId", place));

insert into app.venues select case when n % 2 = 0 then 'Berlin' else 'Paris' end, n, n % 6 <> 0 from generate_series(1, 20) as n;
insert into app.rooms select city, number, n, 'rooms/' || number || '-' || n || '.png' from app.venues, generate_series(1, 5) as n;
insert into app."Artwork" select n, '[1,2,3]' from generate_series(1, 100) as n;
insert into app."ArtworkImage" select n, 1, 'art', n || '.png' from generate_series(1, 100) as n;
