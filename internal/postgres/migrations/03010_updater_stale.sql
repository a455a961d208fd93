-- +goose Up

-- When it was announced that the updater has failed for longer than it may; NULL once it has run well again.
ALTER TABLE tocsin.updater_run ADD COLUMN stale_at timestamptz;

-- +goose Down
ALTER TABLE tocsin.updater_run DROP COLUMN stale_at;
