-- +goose Up

-- named says that some name stood for the manifest at a time; superseded_at is since when none does any more, as noted
-- by the look that retires such manifests. One that a name was merely claimed for, and one published by its digest alone,
-- is never superseded.
ALTER TABLE tocsin.manifest
  ADD COLUMN named boolean NOT NULL DEFAULT false,
  ADD COLUMN superseded_at timestamptz;

-- What names stood for before is not known. A manifest with a name that no registry was asked for was such a name's
-- meaning; so was what a registry answered with.
UPDATE tocsin.manifest m SET named = true
FROM tocsin.naming n
WHERE n.id = m.naming_id AND cardinality(n.names) > 0
  AND (m.verified OR EXISTS (SELECT FROM tocsin.name x WHERE x.manifest_id = m.id)
    OR EXISTS (SELECT FROM unnest(n.names) AS had WHERE NOT EXISTS (SELECT FROM tocsin.name v WHERE v.name = had AND v.verified)));

-- A retired manifest has no inventory and gets no events; it is reported when asked for by its digest.
ALTER TABLE tocsin.manifest DROP CONSTRAINT manifest_state_check;
ALTER TABLE tocsin.manifest ADD CONSTRAINT manifest_state_check
  CHECK (state IN ('pending', 'indexed', 'failed', 'deleted', 'retired'));

CREATE INDEX manifest_superseded ON tocsin.manifest (superseded_at) WHERE superseded_at IS NOT NULL;

-- The manifests that names stood for, and that none stands for now.
CREATE VIEW tocsin.superseded AS
SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE m.named AND NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id);

-- +goose Down
DROP VIEW tocsin.superseded;
DROP INDEX tocsin.manifest_superseded;
UPDATE tocsin.manifest SET state = 'deleted' WHERE state = 'retired';
ALTER TABLE tocsin.manifest DROP CONSTRAINT manifest_state_check;
ALTER TABLE tocsin.manifest ADD CONSTRAINT manifest_state_check CHECK (state IN ('pending', 'indexed', 'failed', 'deleted'));
ALTER TABLE tocsin.manifest DROP COLUMN superseded_at, DROP COLUMN named;
