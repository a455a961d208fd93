-- +goose Up

-- What every updater of every set last did. The row with an empty updater is the set itself: its started_at is what the
-- schedule counts from, and the claim that makes one tick one run. result 'gone' is an updater that the set no longer has;
-- its data stay.
CREATE TABLE tocsin.updater_run (
  set_name            text NOT NULL CHECK (set_name <> ''),
  updater             text NOT NULL,
  job_id              uuid,
  started_at          timestamptz NOT NULL,
  finished_at         timestamptz,
  result              text NOT NULL CHECK (result IN ('running', 'unchanged', 'updated', 'failed', 'gone')),
  error               text NOT NULL DEFAULT '',
  ref                 uuid,
  vulnerabilities     bigint,
  fingerprint_changed boolean NOT NULL DEFAULT false,
  succeeded_at        timestamptz,
  stored_at           timestamptz,
  failures            integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  failing_since       timestamptz,
  announced_at        timestamptz,
  PRIMARY KEY (set_name, updater)
);

-- +goose Down
DROP TABLE tocsin.updater_run;
