-- +goose Up

-- A revoked token stays as a row, so that nothing brings it back. One token a database is made at the first start.
ALTER TABLE tocsin.token
  ADD COLUMN revoked_at timestamptz,
  ADD COLUMN bootstrap boolean NOT NULL DEFAULT false;
UPDATE tocsin.token SET bootstrap = true
 WHERE id = (SELECT id FROM tocsin.token WHERE name = 'first start' AND owner = 'local' ORDER BY created_at, id LIMIT 1);
CREATE UNIQUE INDEX token_bootstrap ON tocsin.token (bootstrap) WHERE bootstrap;

-- +goose Down
DELETE FROM tocsin.token WHERE revoked_at IS NOT NULL;
DROP INDEX tocsin.token_bootstrap;
ALTER TABLE tocsin.token DROP COLUMN revoked_at, DROP COLUMN bootstrap;
