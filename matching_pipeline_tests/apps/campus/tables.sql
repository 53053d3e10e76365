-- A campus market: ids are words of an auth provider, and pictures are paths in a bucket.

create table members (id text primary key, campus text not null);
create table offers (
    id text primary key,
    member_id text not null references members on delete cascade,
    title text not null,
    state text not null default 'open'
);
create table offer_photos (path text primary key, offer_id text not null references offers on delete cascade);
create table wishes (id text primary key, member_id text not null references members on delete cascade, photo_path text);
alter table wishes enable row level security;
create policy everybody on wishes using (true) with check (true);

insert into members select 'user_2a' || n, case n % 2 when 0 then 'North' else 'South' end from generate_series(1, 50) as n;
insert into offers select 'offer_' || n, 'user_2a' || 1 + n % 50, 'Offer ' || n, case when n % 9 = 0 then 'gone' else 'open' end
from generate_series(1, 100) as n;
insert into offer_photos select 'offers/' || n || '/front-' || n || '.png', 'offer_' || n from generate_series(1, 100) as n;
insert into wishes select 'wish_' || n, 'user_2a' || 1 + n % 50, '/wishes/picture ' || n || '.png' from generate_series(1, 70) as n;
