-- +goose Up

-- Scanner states in the order they were first seen. Replicas of two versions run side by side during an upgrade: only
-- what an older state indexed is indexed again, so that they don't undo each other's work for ever.
CREATE TABLE tocsin.indexer_state (
  state      text PRIMARY KEY,
  generation integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  first_seen timestamptz NOT NULL DEFAULT now()
);

-- Every manifest Tocsin was told of. spec is claircore's manifest ({"hash","layers"}); credentials never enter it.
-- sealed holds what is needed to fetch the layers and may be a credential (headers, signed query strings), encrypted
-- with the key named sealed_key; it is removed once the manifest is indexed.
-- A deleted manifest keeps its row, so that old events read the same; purged says that nothing else of it is left.
-- reference is the image reference it was resolved from, if any, so that a re-index can log in to the registry again.
-- degraded says that a scanner lacked outside data; attempted_state is the scanner state indexing last failed with.
CREATE TABLE tocsin.manifest (
  id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  digest          text NOT NULL UNIQUE CHECK (digest ~ '^sha(256|512):[0-9a-f]+$'),
  reference       text NOT NULL DEFAULT '',
  spec            jsonb NOT NULL,
  sealed_key      text NOT NULL DEFAULT '',
  sealed          bytea,
  naming_id       bigint,
  inventory_id    bigint,
  state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'indexed', 'failed', 'deleted')),
  reason          text NOT NULL DEFAULT '',
  indexer_state   text NOT NULL DEFAULT '',
  attempted_state text NOT NULL DEFAULT '',
  packages        integer NOT NULL DEFAULT 0 CHECK (packages >= 0),
  warnings        text[] NOT NULL DEFAULT '{}',
  degraded        boolean NOT NULL DEFAULT false,
  purged          boolean NOT NULL DEFAULT false,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  indexed_at      timestamptz
);
CREATE INDEX manifest_indexer_state ON tocsin.manifest (indexer_state, id) WHERE state = 'indexed';
CREATE INDEX manifest_pending ON tocsin.manifest (updated_at) WHERE state = 'pending';
CREATE INDEX manifest_degraded ON tocsin.manifest (id) WHERE degraded AND state = 'indexed';
CREATE INDEX manifest_purge ON tocsin.manifest (id) WHERE state = 'deleted' AND NOT purged;
-- Which blobs of the store a manifest's layers are.
CREATE INDEX manifest_layers ON tocsin.manifest USING gin ((spec -> 'layers') jsonb_path_ops);

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
DROP TABLE tocsin.indexer_state;
