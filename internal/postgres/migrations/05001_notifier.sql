-- +goose Up

-- Where this server has been (public_url), a row each that never changes or goes: links of an event begin with the one
-- that held when it was written.
CREATE TABLE tocsin.base_url (
  id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  url  text NOT NULL UNIQUE
);

-- The event log. data is NULL where the event is rendered from (change_id, manifest_id, inventory_id, naming_id).
-- scope is NULL for the events everybody may read; else {"subscription": …} or {"filters": […]} says whom it was made for.
-- Partitions are days; what has no day's partition yet lies in event_default. Retention drops partitions.
CREATE TABLE tocsin.event (
  id            uuid NOT NULL,
  type          text NOT NULL,
  source        text NOT NULL,
  subject       text,
  time          timestamptz NOT NULL,
  severityrank  smallint CHECK (severityrank BETWEEN 0 AND 5),
  fixable       boolean,
  kev           boolean,
  epss          smallint CHECK (epss BETWEEN 0 AND 100),
  base          smallint NOT NULL, -- of base_url, without a foreign key to check for each of many rows
  updater       text,
  image         text,
  added         integer,
  removed       integer,
  revised       integer,
  firstload     boolean,
  traceparent   text,
  manifest_id   integer,
  change_id     bigint,
  inventory_id  bigint,
  naming_id     bigint,
  scope         jsonb,
  data          json,
  PRIMARY KEY (id),
  CHECK (data IS NOT NULL OR (change_id IS NOT NULL AND manifest_id IS NOT NULL AND inventory_id IS NOT NULL AND naming_id IS NOT NULL))
) PARTITION BY RANGE (id);
CREATE TABLE tocsin.event_default PARTITION OF tocsin.event DEFAULT;
CREATE INDEX event_manifest ON tocsin.event (manifest_id, id) WHERE manifest_id IS NOT NULL;

-- Between which ids the events of a change lie: they are written together, so no index over change_id is needed.
CREATE TABLE tocsin.change_events (
  change_id  bigint PRIMARY KEY,
  after      uuid NOT NULL,
  until      uuid NOT NULL
);

-- What is still to be published on NATS, a row an event, written with it.
CREATE TABLE tocsin.outbox (
  event_id  uuid PRIMARY KEY,
  due_at    timestamptz NOT NULL DEFAULT '-infinity',
  attempts  integer NOT NULL DEFAULT 0,
  reason    text NOT NULL DEFAULT ''
);

-- Who wants what. spec is the API's object without what the server keeps in columns of its own and without secrets.
-- stamp orders committed writes: whoever sees a stamp sees all smaller ones. writer tells a transaction its own writes.
-- A deleted subscription keeps its row, so that old deliveries can name it.
CREATE SEQUENCE tocsin.subscription_stamp;
CREATE TABLE tocsin.subscription (
  id          uuid PRIMARY KEY,
  owner       text NOT NULL DEFAULT '',
  key         text,
  key_digest  bytea,
  spec        jsonb NOT NULL,
  state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
  reason      text NOT NULL DEFAULT '',
  version     bigint NOT NULL DEFAULT 1,
  stamp       bigint NOT NULL,
  writer      xid8 NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  deleted_at  timestamptz
);
CREATE UNIQUE INDEX subscription_key ON tocsin.subscription (owner, key) WHERE key IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX subscription_by_stamp ON tocsin.subscription (stamp);
CREATE INDEX subscription_owner ON tocsin.subscription (owner, id) WHERE deleted_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION tocsin.stamp_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(5005001);
  NEW.stamp := nextval('tocsin.subscription_stamp');
  NEW.writer := pg_current_xact_id();
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON tocsin.subscription
  FOR EACH ROW EXECUTE FUNCTION tocsin.stamp_subscription();

-- Secrets of subscriptions, sealed with AES-256-GCM by the key that key_id names.
CREATE TABLE tocsin.secret (
  id               uuid PRIMARY KEY,
  subscription_id  uuid NOT NULL REFERENCES tocsin.subscription (id) ON DELETE CASCADE,
  kind             text NOT NULL CHECK (kind IN ('v1', 'v1a', 'credential')),
  public_key       text NOT NULL DEFAULT '',
  key_id           text NOT NULL,
  sealed           bytea NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT now(),
  expires_at       timestamptz
);
CREATE INDEX secret_subscription ON tocsin.secret (subscription_id);

-- A subscription whose filters read the data, and the events that are still to be matched with it, outside the
-- transaction that wrote them: those of a change (update says of which step), or a single one (change_id 0).
-- after moves from one batch to the next.
CREATE TABLE tocsin.pending_match (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subscription_id  uuid NOT NULL REFERENCES tocsin.subscription (id) ON DELETE CASCADE,
  change_id        bigint NOT NULL,
  after            uuid NOT NULL,
  until            uuid NOT NULL,
  update           jsonb,
  digest           jsonb,
  due_at           timestamptz NOT NULL DEFAULT now(),
  attempts         integer NOT NULL DEFAULT 0,
  reason           text NOT NULL DEFAULT ''
);
CREATE INDEX pending_match_due ON tocsin.pending_match (due_at, id);

-- Notifications that a client of Clair's API has deleted.
CREATE TABLE tocsin.notification_deleted (
  event_id    uuid PRIMARY KEY,
  deleted_at  timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE tocsin.notification_deleted;
DROP TABLE tocsin.pending_match;
DROP TABLE tocsin.secret;
DROP TABLE tocsin.subscription;
DROP FUNCTION tocsin.stamp_subscription();
DROP SEQUENCE tocsin.subscription_stamp;
DROP TABLE tocsin.outbox;
DROP TABLE tocsin.change_events;
DROP TABLE tocsin.event;
DROP TABLE tocsin.base_url;
