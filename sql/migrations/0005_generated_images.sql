-- Product pictures: the types that there are, and the pictures that were made.

create table image_types (
    name text constraint image_types_pkey primary key,
    prompt text not null,
    position integer not null,
    enabled boolean not null default true,
    constraint image_types_name_format check (name ~ '^[a-z][a-z0-9_]*$'),
    constraint image_types_prompt_not_empty check (btrim(prompt, E' \t\r\n') <> '')
);
alter table image_types enable row level security;
comment on column image_types.prompt is 'the prompt for an image-edit model, with the project''s photo';
comment on column image_types.position is 'the place in a pack';
comment on column image_types.enabled is 'whether a pack has it and a single picture of it may be asked for';

insert into image_types (position, name, prompt) values
(1, 'white_background',
'Edit this photo into a catalogue picture for an online shop: the same product, alone, centred and upright on a pure white '
'background (#FFFFFF) that is even up to every edge. Keep the product exactly as it is: shape, proportions, colours, material, '
'labels and any text on it; add, remove and repair nothing. Soft, even studio light, a faint contact shadow under the product, '
'sharp from front to back. The whole product is visible and fills about 80 percent of a square picture. No props, no text, no watermark.'),
(2, 'lifestyle',
'Place the product of this photo into a believable scene of its everyday use, in a tidy, lived-in room or place where such a '
'product belongs. Keep the product exactly as it is: shape, proportions, colours, material, labels and any text on it. It is the '
'clear subject, in focus, at its natural size beside the things around it, standing or lying as gravity wants, with light and '
'shadows that agree with the scene. Natural daylight, a calm background slightly out of focus, colours that suit the product. '
'No people''s faces, no other brands, no added text, no watermark. Square picture.'),
(3, 'detail_close_up',
'Make a close-up of the most telling detail of the product in this photo: its material, texture, seam, finish, joint or '
'ornament. Show only what the photo shows; invent no detail, label or lettering. Macro photograph, shallow depth of field with the '
'detail in crisp focus, soft light from the side that brings out the surface, true colours, a plain neutral background where one '
'is seen. The detail fills the square picture. No hands, no added text, no watermark.'),
(4, 'scale',
'Show how large the product of this photo is: the same product on a plain light surface beside one familiar object of known '
'size that suits it, such as a hand, a coffee cup, a book or a chair, both in the same light, at the same distance from the camera and in '
'true proportion to each other. Keep the product exactly as it is: shape, colours, material, labels and any text on it. Both are wholly '
'visible in a square picture with a neutral background. No rulers, no numbers, no added text, no watermark.'),
(5, 'packaging_flat_lay',
'Arrange the product of this photo as a flat lay seen straight from above: the same product as it arrives, on tissue paper in an '
'open, plain gift or shipping box with a blank card beside it, on a clean surface in a colour that suits it. Keep the product '
'exactly as it is: shape, proportions, colours, material, labels and any text on it. Even, soft daylight, gentle shadows, tidy '
'spacing, everything in focus. No brand names or lettering on box and card, no hands, no watermark. Square picture.'),
(6, 'social_square',
'Turn this photo into an eye-catching square picture for social media: the same product, large and central, before a bold, clean '
'backdrop in one or two colours that contrast with it, with simple geometric shapes or a pedestal and a crisp shadow. Keep the '
'product exactly as it is: shape, proportions, colours, material, labels and any text on it. Bright studio light, vivid but true '
'colours, some free room around the product so that nothing is cut off in a round or portrait crop. No added text, no logos, no watermark.');

create table generated_images (
    source text not null constraint generated_images_source_fkey references sources (name) on delete cascade,
    key text collate "C" not null,
    -- a type that has pictures is disabled, not deleted
    image_type text not null constraint generated_images_image_type_fkey references image_types (name) on update cascade,
    url text not null,
    width integer not null,
    height integer not null,
    media_type text not null,
    bytes bigint not null,
    model text not null,
    source_url text not null,
    source_hash bytea not null,
    cost_usd numeric(12, 6),
    created_at timestamptz not null default now(),
    constraint generated_images_pkey primary key (source, key, image_type),
    constraint generated_images_size_positive check (width > 0 and height > 0 and bytes > 0),
    constraint generated_images_source_hash_length check (length(source_hash) = 32),
    constraint generated_images_cost_not_negative check (cost_usd >= 0)
);
alter table generated_images enable row level security;
comment on column generated_images.source_url is 'the URL of the photo that it was made from: if the photo has another URL now, the picture is out of date';
comment on column generated_images.source_hash is 'SHA-256 of the photo: the same photo under another URL is not paid for twice';
comment on column generated_images.cost_usd is 'what the provider charged; null if it charges nothing';

-- The name of a picture's file is the hash of its content, wherever the file is.
create index generated_images_file_name_idx on generated_images (split_part(url, '/', -1));
create index generated_images_created_at_idx on generated_images (created_at);
