-- +goose Up
CREATE SCHEMA IF NOT EXISTS tocsin;

-- A version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 12 bits of the fraction of a millisecond
-- (section 6.2, method 3), 62 random bits. Ids of later microseconds sort after those of earlier ones; within one
-- microsecond the order is random. microseconds * 512 / 125 is milliseconds * 4096 + fraction, in one integer.
-- Each argument is used once, so that the planner inlines the function. Good until the year 2540.
-- +goose StatementBegin
CREATE FUNCTION tocsin.uuidv7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT (overlay(lpad(to_hex((date_part('epoch', at) * 1000000)::bigint * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
    || substr(gen_random_uuid()::text, 20))::uuid
$$;
-- +goose StatementEnd

-- The smallest version 7 UUID of an instant: the bound of a time partition.
-- +goose StatementBegin
CREATE FUNCTION tocsin.uuidv7_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (overlay(lpad(to_hex((date_part('epoch', at) * 1000000)::bigint * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
    || '8000000000000000')::uuid
$$;
-- +goose StatementEnd

CREATE TABLE tocsin.setting (
  key   text PRIMARY KEY,
  value text NOT NULL
);

-- +goose Down
DROP SCHEMA tocsin CASCADE;
