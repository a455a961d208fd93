-- +goose Up

-- What a scanner could not read of a layer, in whole or in part, so that the index of every manifest with the layer is
-- partial. Of the same version of the scanner, the scan of such a layer is not tried again for a day.
CREATE TABLE tocsin.unread (
  layer   text NOT NULL CHECK (layer ~ '^sha(256|512):[0-9a-f]+$'),
  scanner text NOT NULL,
  kind    text NOT NULL,
  version text NOT NULL,
  whole   boolean NOT NULL, -- nothing of the layer could be read; else the rest was
  reason  text NOT NULL,
  at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (layer, scanner, kind, version)
);

-- +goose Down
DROP TABLE tocsin.unread;
