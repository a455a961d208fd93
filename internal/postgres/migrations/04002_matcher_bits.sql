-- +goose Up

-- Which bit of occurrence_record.matchers belongs to which matcher. Rows are only ever added: a bit keeps its meaning for
-- the life of the database, whatever matchers a process has.
CREATE TABLE tocsin.matcher_bit (
  name text PRIMARY KEY CHECK (name <> ''),
  bit  smallint NOT NULL UNIQUE CHECK (bit BETWEEN 0 AND 61)
);

-- The processes that work through updates now, with the set of matchers each has. One that was not seen for two minutes
-- does not count. fingerprint is compared with that in tocsin.setting, by which the stored masks were made.
CREATE TABLE tocsin.matcher_process (
  id          uuid PRIMARY KEY,
  host        text NOT NULL,
  pid         integer NOT NULL,
  fingerprint text NOT NULL,
  names       text[] NOT NULL,
  seen_at     timestamptz NOT NULL
);

-- +goose Down
DROP TABLE tocsin.matcher_process;
DROP TABLE tocsin.matcher_bit;
