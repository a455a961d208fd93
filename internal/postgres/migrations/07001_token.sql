-- +goose Up

-- API tokens. hash is the SHA-256 of the token; the token itself is nowhere.
CREATE TABLE tocsin.token (
  id            uuid PRIMARY KEY DEFAULT tocsin.uuidv7(),
  name          text NOT NULL CHECK (name <> ''),
  owner         text NOT NULL CHECK (owner <> ''),
  scopes        text[] NOT NULL CHECK (cardinality(scopes) > 0
                                       AND scopes <@ ARRAY['admin', 'read', 'publish', 'subscriptions']),
  hash          bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  created_at    timestamptz NOT NULL DEFAULT now(),
  expires_at    timestamptz,
  last_used_at  timestamptz
);

-- +goose Down
DROP TABLE tocsin.token;
