-- +goose Up

-- Who did what: changes by tokens, the creation, revocation and sampled use of tokens, and partitions that were dropped.
-- A change is written down before it is made, and its outcome after: status is NULL while it is not known, for ever if the
-- process ended in between.
CREATE TABLE tocsin.audit (
  id       uuid PRIMARY KEY DEFAULT tocsin.uuidv7(),
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor    text NOT NULL,
  token    uuid,
  owner    text NOT NULL DEFAULT '',
  action   text NOT NULL,
  object   text NOT NULL DEFAULT '',
  detail   jsonb,
  remote   text NOT NULL DEFAULT '',
  request  text NOT NULL DEFAULT '',
  status   integer
);
CREATE INDEX audit_at ON tocsin.audit (at);

-- +goose Down
DROP TABLE tocsin.audit;
