-- +goose Up

-- host is whom the subscription's deliveries go to, as its failing was last noted; announced says that the failing was
-- announced. Of all lanes to one host that fail, one is.
ALTER TABLE tocsin.lane
  ADD COLUMN host      text NOT NULL DEFAULT '',
  ADD COLUMN announced boolean NOT NULL DEFAULT false;
UPDATE tocsin.lane SET announced = true WHERE breaker <> 'closed';
CREATE INDEX lane_failing ON tocsin.lane (host) WHERE breaker <> 'closed';

-- +goose Down
DROP INDEX tocsin.lane_failing;
ALTER TABLE tocsin.lane DROP COLUMN host, DROP COLUMN announced;
