-- +goose Up

-- What a name stands for now: one manifest for each platform of its newest naming. platform is '' where nobody said.
-- verified says that a registry was asked for the name; such a meaning is replaced by another one alone.
CREATE TABLE tocsin.name (
  name        text NOT NULL,
  platform    text NOT NULL DEFAULT '',
  manifest_id integer NOT NULL REFERENCES tocsin.manifest (id),
  verified    boolean NOT NULL DEFAULT false,
  named_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, platform)
);
CREATE INDEX name_manifest ON tocsin.name (manifest_id);

INSERT INTO tocsin.name (name, platform, manifest_id, verified, named_at)
SELECT DISTINCT ON (name, platform) name, coalesce(n.labels ->> 'platform', '') AS platform, m.id, m.reference = name, n.created_at
FROM tocsin.manifest m JOIN tocsin.naming n ON n.id = m.naming_id, unnest(n.names) AS name
WHERE m.state <> 'deleted'
ORDER BY name, platform, m.id DESC;

-- verified says that a registry answered with the manifest, whose bytes have the digest: its layers are those it has.
-- replaced says that claircore still holds an index of other layers, which somebody had claimed.
ALTER TABLE tocsin.manifest
  ADD COLUMN verified boolean NOT NULL DEFAULT false,
  ADD COLUMN replaced boolean NOT NULL DEFAULT false;
UPDATE tocsin.manifest SET verified = true WHERE reference <> '';

-- +goose Down
ALTER TABLE tocsin.manifest DROP COLUMN verified, DROP COLUMN replaced;
DROP TABLE tocsin.name;
