-- +goose Up

-- Tags that are asked for again and again: image is a reference, in whose tag * stands for anything. next_at is when it
-- is due; whoever looks puts it off first, so that one replica does. reason says why the last look failed.
CREATE TABLE tocsin.follow (
  id         uuid PRIMARY KEY DEFAULT tocsin.uuidv7(),
  image      text NOT NULL UNIQUE,
  platforms  text[] NOT NULL DEFAULT '{}',
  schedule   text NOT NULL,
  next_at    timestamptz NOT NULL DEFAULT now(),
  looked_at  timestamptz,
  images     integer NOT NULL DEFAULT 0,
  reason     text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX follow_next ON tocsin.follow (next_at);

-- +goose Down
DROP TABLE tocsin.follow;
