-- +goose Up

-- What happens to a subscription is its owner's to see: the scope of its events names the owner, as it does for new ones.
UPDATE tocsin.event e SET scope = jsonb_build_object('owner', s.owner)
  FROM tocsin.subscription s
 WHERE e.type LIKE 'dev.tocsin.subscription.%' AND e.scope IS NULL AND s.owner <> '' AND s.id::text = e.data->>'subscription';

-- +goose Down
UPDATE tocsin.event SET scope = NULL WHERE scope ? 'owner';
