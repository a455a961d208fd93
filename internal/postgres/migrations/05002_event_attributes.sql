-- +goose Up

-- The attributes of an event that have no column of their own, by name: a new attribute needs no migration. NULL, which
-- takes no room, where there are none.
ALTER TABLE tocsin.event ADD COLUMN attributes jsonb;

-- +goose Down
ALTER TABLE tocsin.event DROP COLUMN attributes;
