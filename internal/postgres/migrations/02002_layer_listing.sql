-- +goose Up

-- What a layer does to the file system: the entries of its archive in order, packed. It goes with claircore's layer.
CREATE TABLE tocsin.layer_listing (
  layer_id bigint PRIMARY KEY REFERENCES public.layer (id) ON DELETE CASCADE,
  files    bytea NOT NULL
);
ALTER TABLE tocsin.layer_listing ALTER COLUMN files SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE tocsin.layer_listing;
