-- +goose Up

-- Every manifest Tocsin was told of. spec is claircore's manifest ({"hash","layers"}); credentials never enter it.
-- A deleted manifest keeps its row, so that old events read the same.
-- reference is the image reference it was resolved from, if any, so that a re-index can ask the registry again.
CREATE TABLE tocsin.manifest (
  id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  digest         text NOT NULL UNIQUE CHECK (digest ~ '^sha(256|512):[0-9a-f]+$'),
  reference      text NOT NULL DEFAULT '',
  spec           jsonb NOT NULL,
  naming_id      bigint,
  inventory_id   bigint,
  state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'indexed', 'failed', 'deleted')),
  reason         text NOT NULL DEFAULT '',
  indexer_state  text NOT NULL DEFAULT '',
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  indexed_at     timestamptz
);
CREATE INDEX manifest_indexer_state ON tocsin.manifest (indexer_state) WHERE state = 'indexed';

-- What a manifest was called, each version immutable: an event points at the one of its moment.
CREATE TABLE tocsin.naming (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  manifest_id integer NOT NULL REFERENCES tocsin.manifest (id),
  names       text[] NOT NULL DEFAULT '{}',
  labels      jsonb NOT NULL DEFAULT '{}',
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX naming_manifest ON tocsin.naming (manifest_id);
CREATE INDEX naming_names ON tocsin.naming USING gin (names);

-- +goose Down
DROP TABLE tocsin.naming;
DROP TABLE tocsin.manifest;
