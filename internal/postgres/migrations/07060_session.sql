-- +goose Up

-- Browsers that are logged in. hash is the SHA-256 of the cookie; a session ends with its token. begun_at is the login,
-- made_at when the cookie was renewed last. form_key is in every form
-- that the session is shown, and stays when the cookie is renewed.
CREATE TABLE tocsin.session (
  hash        bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  form_key    text NOT NULL,
  token_id    uuid NOT NULL REFERENCES tocsin.token (id) ON DELETE CASCADE,
  begun_at    timestamptz NOT NULL,
  made_at     timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL
);
CREATE INDEX session_form_key ON tocsin.session (form_key);
CREATE INDEX session_token ON tocsin.session (token_id);
CREATE INDEX session_expires ON tocsin.session (expires_at);

-- +goose Down
DROP TABLE tocsin.session;
