-- +goose Up
CREATE SCHEMA IF NOT EXISTS tocsin;

-- A version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then
-- 12 bits of sub-millisecond fraction for order within one, then random bits.
-- +goose StatementBegin
CREATE FUNCTION tocsin.uuidv7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT encode(
    set_byte(set_byte(
      overlay(
        overlay(uuid_send(gen_random_uuid())
          PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6)
        PLACING substring(int2send((floor((extract(epoch FROM at) * 1000 - floor(extract(epoch FROM at) * 1000)) * 4096))::int2) FROM 1) FROM 7 FOR 2),
      6, (112 | (get_byte(int2send((floor((extract(epoch FROM at) * 1000 - floor(extract(epoch FROM at) * 1000)) * 4096))::int2), 0) & 15))),
      8, (128 | (get_byte(uuid_send(gen_random_uuid()), 8) & 63))),
    'hex')::uuid
$$;
-- +goose StatementEnd

-- The smallest version 7 UUID of an instant: the bound of a time partition.
-- +goose StatementBegin
CREATE FUNCTION tocsin.uuidv7_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;
-- +goose StatementEnd

CREATE TABLE tocsin.setting (
  key   text PRIMARY KEY,
  value text NOT NULL
);

-- +goose Down
DROP SCHEMA tocsin CASCADE;
