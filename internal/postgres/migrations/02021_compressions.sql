-- +goose Up

-- The digest of what each layer unpacks to: it is the same however the layer is compressed.
CREATE TABLE tocsin.layer_content (
  layer_id bigint PRIMARY KEY REFERENCES public.layer (id) ON DELETE CASCADE,
  diff_id  text NOT NULL
);

-- config is the digest of the image's configuration, where somebody said it. image says what the layers unpack to, '' where
-- that is not known; twinned that another manifest's layers unpack to the same.
ALTER TABLE tocsin.manifest
  ADD COLUMN config  text NOT NULL DEFAULT '',
  ADD COLUMN image   text NOT NULL DEFAULT '',
  ADD COLUMN twinned boolean NOT NULL DEFAULT false;
CREATE INDEX manifest_config ON tocsin.manifest (config) WHERE config <> '';
CREATE INDEX manifest_image ON tocsin.manifest (image) WHERE image <> '';
CREATE INDEX manifest_twinned ON tocsin.manifest (id) WHERE twinned;

-- also are the digests of the other compressions of the image.
ALTER TABLE tocsin.naming ADD COLUMN also text[] NOT NULL DEFAULT '{}';

-- The manifests that names stood for, and that none stands for now, nor for another compression of the same image.
CREATE OR REPLACE VIEW tocsin.superseded AS
SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE m.named AND NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id)
  AND NOT (m.config <> '' AND EXISTS (
    SELECT FROM tocsin.manifest o JOIN tocsin.name n ON n.manifest_id = o.id WHERE o.config = m.config AND o.config <> ''));

-- Pairs of manifests that are one image in two compressions: their layers unpack to the same, on one platform, and their
-- configuration is the same or, where one is not known, their layers are others. A manifest that goes by no name is known
-- to its publisher by its digest alone, and is no twin.
CREATE VIEW tocsin.twin AS
SELECT a.id AS manifest_id, b.id AS twin_id
FROM tocsin.manifest a JOIN tocsin.naming an ON an.id = a.naming_id AND cardinality(an.names) > 0
JOIN tocsin.manifest b ON b.image = a.image AND b.image <> '' AND b.id <> a.id AND b.twinned AND b.state = 'indexed'
JOIN tocsin.naming bn ON bn.id = b.naming_id AND cardinality(bn.names) > 0
WHERE a.twinned AND coalesce(an.labels ->> 'platform', '') = coalesce(bn.labels ->> 'platform', '')
  AND CASE WHEN a.config <> '' AND b.config <> '' THEN a.config = b.config
    ELSE jsonb_path_query_array(a.spec, '$.layers[*].hash') <> jsonb_path_query_array(b.spec, '$.layers[*].hash') END;

-- +goose Down
DROP VIEW tocsin.twin;
CREATE OR REPLACE VIEW tocsin.superseded AS
SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE m.named AND NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id);
ALTER TABLE tocsin.naming DROP COLUMN also;
ALTER TABLE tocsin.manifest DROP COLUMN twinned, DROP COLUMN image, DROP COLUMN config;
DROP TABLE tocsin.layer_content;
