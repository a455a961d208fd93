-- +goose Up

-- The takeover of a database that Clair has filled, if there was one to begin with: one row, from the first start on.
-- images is how many finished index reports had no inventory then, recorded how many of them have one now, failed how
-- many can't have one. Until finished_at is set no update is worked through, since its images would not be found.
CREATE TABLE tocsin.takeover (
  one         boolean PRIMARY KEY DEFAULT true CHECK (one),
  images      integer NOT NULL DEFAULT 0,
  recorded    integer NOT NULL DEFAULT 0,
  failed      integer NOT NULL DEFAULT 0,
  started_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);

-- Update operations beyond the cursors that Clair's notifier has told of: the cursor passes them in silence.
CREATE TABLE tocsin.told (
  op_id bigint PRIMARY KEY
);

-- A database that Tocsin has worked on before has cursors of its own.
INSERT INTO tocsin.takeover (finished_at)
SELECT now()
WHERE EXISTS (SELECT FROM tocsin.cursor) OR EXISTS (SELECT FROM tocsin.manifest) OR EXISTS (SELECT FROM tocsin.job);

-- +goose Down
DROP TABLE tocsin.told;
DROP TABLE tocsin.takeover;
