-- +goose Up

-- What every vulnerability feed speaks of, as of one of its operations: the distributions and repositories that its
-- advisories name. Derived from public.vuln, to answer whether anything could be known of an image's packages.
CREATE TABLE tocsin.feed (
  updater text PRIMARY KEY,
  op_id   bigint NOT NULL,
  date    timestamptz NOT NULL
);
CREATE TABLE tocsin.feed_scope (
  updater                text NOT NULL REFERENCES tocsin.feed (updater) ON DELETE CASCADE,
  dist_id                text NOT NULL,
  dist_name              text NOT NULL,
  dist_version           text NOT NULL,
  dist_version_id        text NOT NULL,
  dist_version_code_name text NOT NULL,
  dist_pretty_name       text NOT NULL,
  dist_arch              text NOT NULL,
  repo_name              text NOT NULL,
  repo_key               text NOT NULL
);
CREATE INDEX feed_scope_updater ON tocsin.feed_scope (updater);

-- +goose Down
DROP TABLE tocsin.feed_scope;
DROP TABLE tocsin.feed;
