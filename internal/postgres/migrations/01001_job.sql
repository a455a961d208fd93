-- +goose Up

-- Work to do. payload is json, not jsonb: what strangers send is kept as it came, \u0000 included.
-- A running job belongs to whoever has its fence until lease_until. published_at is when its message was last
-- published; NULL means that it has to be, once next_run_at has come.
CREATE TABLE tocsin.job (
  id           uuid PRIMARY KEY DEFAULT tocsin.uuidv7(),
  kind         text NOT NULL CHECK (kind ~ '^[a-z0-9_-]{1,40}$'),
  key          text NOT NULL CHECK (key <> ''),
  payload      json NOT NULL,
  state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  rejected     boolean NOT NULL DEFAULT false CHECK (NOT rejected OR state = 'failed'),
  attempts     integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  reason       text NOT NULL DEFAULT '',
  progress     text NOT NULL DEFAULT '',
  result       text NOT NULL DEFAULT '',
  traceparent  text NOT NULL DEFAULT '',
  fence        bigint NOT NULL DEFAULT 0,
  lease_until  timestamptz CHECK ((state = 'running') = (lease_until IS NOT NULL)),
  next_run_at  timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now()
);

-- One active job a key.
CREATE UNIQUE INDEX job_active ON tocsin.job (kind, key) WHERE state IN ('queued', 'running');
-- What the sweeper looks for: jobs to publish, jobs that wait for their runner, jobs whose runner may have gone.
CREATE INDEX job_due ON tocsin.job (next_run_at) WHERE state = 'queued' AND published_at IS NULL;
CREATE INDEX job_waiting ON tocsin.job (kind, published_at) WHERE state = 'queued';
-- How far the runners of a kind have come in the order of publication.
CREATE INDEX job_claimed ON tocsin.job (kind, published_at) WHERE state <> 'queued';
CREATE INDEX job_lease ON tocsin.job (lease_until) WHERE state = 'running';
CREATE INDEX job_ended ON tocsin.job (updated_at) WHERE state IN ('done', 'failed');
-- Lists of one kind or state, newest first.
CREATE INDEX job_kind ON tocsin.job (kind, state, id);
CREATE INDEX job_failed ON tocsin.job (id) WHERE state = 'failed';

-- +goose Down
DROP TABLE tocsin.job;
