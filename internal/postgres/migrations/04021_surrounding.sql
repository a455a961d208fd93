-- +goose Up

-- What surrounds packages, each set once: the distributions, repositories and matchers that decide whether a feed can speak
-- of them. places is a sorted array of [matchers, dist_id, …, repo_key], the columns of occurrence_record; it is empty for
-- packages that don't count, since their version can't be compared. All three tables derive from occurrence_record.
CREATE TABLE tocsin.surrounding (
  id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key    bytea NOT NULL UNIQUE,
  places jsonb NOT NULL
);
CREATE TABLE tocsin.occurrence_surrounding (
  occurrence_id  integer PRIMARY KEY REFERENCES tocsin.occurrence (id) ON DELETE CASCADE,
  surrounding_id integer NOT NULL
);
-- The different surroundings in an inventory: few, so that what is covered of many inventories is found out at once.
CREATE TABLE tocsin.inventory_surrounding (
  inventory_id bigint PRIMARY KEY REFERENCES tocsin.inventory (id) ON DELETE CASCADE,
  surroundings integer[] NOT NULL
);

-- +goose Down
DROP TABLE tocsin.inventory_surrounding;
DROP TABLE tocsin.occurrence_surrounding;
DROP TABLE tocsin.surrounding;
