-- Who may create a trigger on a table of their own with one of these functions could have it delete in their owner's
-- name. An existing trigger fires without this right.
revoke execute on function listings_changed() from public;
revoke execute on function listing_images_changed() from public;
revoke execute on function products_changed() from public;
revoke execute on function product_images_changed() from public;
revoke execute on function image_ai_changed() from public;
revoke execute on function matches_lost() from public;
revoke execute on function match_settings_changed() from public;
revoke execute on function jobs_changed() from public;
-- Who holds a slot passes for a drain.
revoke execute on function take_drain_slot(text, integer) from public;
