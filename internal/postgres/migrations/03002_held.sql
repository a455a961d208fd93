-- +goose Up

-- An update that would take away more of a feed than it may is held: not stored, announced once, and taken by the next run
-- after somebody accepted it. held_rows is how many rows it has.
ALTER TABLE tocsin.updater_run DROP CONSTRAINT updater_run_result_check;
ALTER TABLE tocsin.updater_run ADD CONSTRAINT updater_run_result_check
  CHECK (result IN ('running', 'unchanged', 'updated', 'failed', 'held', 'gone'));
ALTER TABLE tocsin.updater_run
  ADD COLUMN held_since timestamptz,
  ADD COLUMN held_rows bigint,
  ADD COLUMN accepted_at timestamptz;

-- +goose Down
UPDATE tocsin.updater_run SET result = 'failed' WHERE result = 'held';
ALTER TABLE tocsin.updater_run DROP COLUMN held_since, DROP COLUMN held_rows, DROP COLUMN accepted_at;
ALTER TABLE tocsin.updater_run DROP CONSTRAINT updater_run_result_check;
ALTER TABLE tocsin.updater_run ADD CONSTRAINT updater_run_result_check
  CHECK (result IN ('running', 'unchanged', 'updated', 'failed', 'gone'));
