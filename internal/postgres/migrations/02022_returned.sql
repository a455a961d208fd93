-- +goose Up

-- returned: a name stands for the manifest again that had been superseded, and that is not announced yet.
ALTER TABLE tocsin.manifest ADD COLUMN returned boolean NOT NULL DEFAULT false;
CREATE INDEX manifest_returned ON tocsin.manifest (id) WHERE returned;

-- +goose Down
DROP INDEX tocsin.manifest_returned;
ALTER TABLE tocsin.manifest DROP COLUMN returned;
