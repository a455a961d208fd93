-- +goose Up

-- What readiness writes to see that the database takes writes. A row fills more than half a page and is never vacuumed away,
-- so that every one needs a new page of the disk; the table is emptied when it has grown to a MiB.
CREATE TABLE tocsin.write_probe (
  filler text NOT NULL
) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE tocsin.write_probe ALTER COLUMN filler SET STORAGE PLAIN;

-- +goose Down
DROP TABLE tocsin.write_probe;
