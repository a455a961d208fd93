-- +goose Up

-- How many messages that nobody could understand a rejected job stands for: one, or, where there were many in a short time, all
-- of them after the first few. Such a job's key is storm: and the beginning of its ten minutes.
ALTER TABLE tocsin.job ADD COLUMN messages bigint NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX job_storm ON tocsin.job (kind, key) WHERE rejected AND key LIKE 'storm:%';
CREATE INDEX job_rejected ON tocsin.job (kind, created_at) WHERE rejected;

-- +goose Down
DROP INDEX tocsin.job_rejected;
DROP INDEX tocsin.job_storm;
ALTER TABLE tocsin.job DROP COLUMN messages;
