-- +goose Up

-- Manifests whose changes are told with those of a twin that holds the same and goes by all their names and labels, so that
-- whoever filters by these hears of it: of several the one that a name stands for, else the first. Who tells for others is
-- told for by nobody.
CREATE OR REPLACE VIEW tocsin.told_with AS
WITH better AS MATERIALIZED (
  SELECT t.manifest_id, t.twin_id
  FROM tocsin.twin t
  JOIN tocsin.inventory i ON i.manifest_id = t.manifest_id AND i.current
  JOIN tocsin.inventory j ON j.manifest_id = t.twin_id AND j.current AND j.occurrences = i.occurrences
  JOIN tocsin.manifest a ON a.id = t.manifest_id
  JOIN tocsin.naming own ON own.id = a.naming_id
  JOIN tocsin.manifest b ON b.id = t.twin_id
  JOIN tocsin.naming twins ON twins.id = b.naming_id AND twins.names @> own.names AND twins.labels @> own.labels
  WHERE (NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = t.twin_id), t.twin_id)
      < (NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = t.manifest_id), t.manifest_id)
)
SELECT b.manifest_id, b.twin_id FROM better b WHERE NOT EXISTS (SELECT FROM better o WHERE o.manifest_id = b.twin_id);

-- +goose Down
CREATE OR REPLACE VIEW tocsin.told_with AS
WITH better AS MATERIALIZED (
  SELECT t.manifest_id, t.twin_id
  FROM tocsin.twin t
  JOIN tocsin.inventory i ON i.manifest_id = t.manifest_id AND i.current
  JOIN tocsin.inventory j ON j.manifest_id = t.twin_id AND j.current AND j.occurrences = i.occurrences
  WHERE (NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = t.twin_id), t.twin_id)
      < (NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = t.manifest_id), t.manifest_id)
)
SELECT b.manifest_id, b.twin_id FROM better b WHERE NOT EXISTS (SELECT FROM better o WHERE o.manifest_id = b.twin_id);
