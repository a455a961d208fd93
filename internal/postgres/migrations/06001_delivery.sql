-- +goose Up

-- What is owed and not yet settled: one event to one subscription. Settled rows move to delivery, so this table stays as
-- small as the backlog and its index finds the due rows of one subscription whatever the others have waiting.
-- next_attempt_at is the retry clock. id is a version 7 UUID of the moment it was enqueued.
CREATE TABLE tocsin.queue (
  id              uuid PRIMARY KEY,
  event_id        uuid NOT NULL,
  subscription_id uuid NOT NULL,
  attempts        smallint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  class           text NOT NULL DEFAULT '',
  replay_of       uuid
) WITH (
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.2
);
CREATE INDEX queue_due ON tocsin.queue (subscription_id, next_attempt_at, id);

-- What became of every delivery. attempts counts those made; class is the last one's. replayed_at says that the event was
-- owed again later, by another delivery: a dead letter that was replayed is no longer one to look after.
CREATE TABLE tocsin.delivery (
  id              uuid NOT NULL,
  event_id        uuid NOT NULL,
  subscription_id uuid NOT NULL,
  state           text NOT NULL CHECK (state IN ('delivered', 'dead', 'dropped')),
  attempts        smallint NOT NULL,
  class           text NOT NULL DEFAULT '',
  finished_at     timestamptz NOT NULL DEFAULT now(),
  replay_of       uuid,
  replayed_at     timestamptz,
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX delivery_subscription ON tocsin.delivery (subscription_id, id);
CREATE INDEX delivery_event ON tocsin.delivery (event_id);
CREATE INDEX delivery_undelivered ON tocsin.delivery (subscription_id, id) WHERE state <> 'delivered';

-- One row an attempt. It lives in the partition of its delivery's moment and goes with it.
CREATE TABLE tocsin.attempt (
  delivery_id     uuid NOT NULL,
  number          smallint NOT NULL CHECK (number > 0),
  subscription_id uuid NOT NULL,
  at              timestamptz NOT NULL,
  ms              real NOT NULL,
  class           text NOT NULL,
  status          integer NOT NULL DEFAULT 0,
  response        text NOT NULL DEFAULT '' CHECK (octet_length(response) <= 1024),
  error           text NOT NULL DEFAULT '' CHECK (octet_length(error) <= 1024),
  PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);
CREATE INDEX attempt_at ON tocsin.attempt USING brin (at) WITH (pages_per_range = 16);

-- Rows whose day has no partition (yet, or any more).
CREATE TABLE tocsin.delivery_default PARTITION OF tocsin.delivery DEFAULT;
CREATE TABLE tocsin.attempt_default PARTITION OF tocsin.attempt DEFAULT;

-- The processes that deliver. One whose lease has run out has lost its lanes.
CREATE TABLE tocsin.replica (
  id          uuid PRIMARY KEY,
  name        text NOT NULL DEFAULT '',
  started_at  timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One row a subscription that was ever owed something: which replica delivers to it, and its breaker. token grows with
-- every change of owner; a settlement with an older one is refused. version is the subscription's that not_before is about:
-- a subscription that has changed since does not wait.
CREATE TABLE tocsin.lane (
  subscription_id uuid PRIMARY KEY,
  owner           uuid,
  token           bigint NOT NULL DEFAULT 0,
  not_before      timestamptz,
  version         bigint NOT NULL DEFAULT 0,
  breaker         text NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half-open')),
  opens           integer NOT NULL DEFAULT 0,
  failing_since   timestamptz,
  reason          text NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE INDEX lane_owner ON tocsin.lane (owner) WHERE owner IS NOT NULL;
CREATE INDEX lane_waits ON tocsin.lane (subscription_id) WHERE not_before IS NOT NULL;

-- +goose Down
DROP TABLE tocsin.lane;
DROP TABLE tocsin.replica;
DROP TABLE tocsin.attempt;
DROP TABLE tocsin.delivery;
DROP TABLE tocsin.queue;
