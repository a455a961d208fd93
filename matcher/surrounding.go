package matcher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const (
	// newPlaces are the places of occurrences of inventories that have none noted.
	newPlaces = `
  SELECT x.id AS occurrence_id, coalesce(jsonb_agg(DISTINCT jsonb_build_array(r.matchers, r.dist_id, r.dist_name, r.dist_version,
    r.dist_version_id, r.dist_version_code_name, r.dist_pretty_name, r.dist_arch, r.repo_name, r.repo_key))
    FILTER (WHERE r.name <> '' AND r.norm_kind <> 'unmatchable'), '[]') AS places
  FROM (SELECT DISTINCT unnest(occurrences) AS id FROM tocsin.inventory WHERE id = ANY(@inventories)) x
  JOIN tocsin.occurrence_record r ON r.occurrence_id = x.id
  WHERE NOT EXISTS (SELECT FROM tocsin.occurrence_surrounding o WHERE o.occurrence_id = x.id)
  GROUP BY x.id`

	// Rows go in by key, so that two transactions that bring the same ones wait
	// for each other instead of for ever.
	insertSurroundings = `
INSERT INTO tocsin.surrounding (key, places)
SELECT DISTINCT sha256(convert_to(p.places::text, 'UTF8')) AS key, p.places FROM (` + newPlaces + `) p ORDER BY key
ON CONFLICT (key) DO NOTHING`

	insertOccurrenceSurroundings = `
INSERT INTO tocsin.occurrence_surrounding (occurrence_id, surrounding_id)
SELECT p.occurrence_id, s.id FROM (` + newPlaces + `) p
JOIN tocsin.surrounding s ON s.key = sha256(convert_to(p.places::text, 'UTF8'))
ORDER BY p.occurrence_id
ON CONFLICT (occurrence_id) DO NOTHING`

	insertInventorySurroundings = `
INSERT INTO tocsin.inventory_surrounding (inventory_id, surroundings)
SELECT i.id, coalesce(array_agg(DISTINCT s.id) FILTER (WHERE s.places <> '[]'), '{}')
FROM tocsin.inventory i
LEFT JOIN LATERAL unnest(i.occurrences) AS x (id) ON true
LEFT JOIN tocsin.occurrence_surrounding o ON o.occurrence_id = x.id
LEFT JOIN tocsin.surrounding s ON s.id = o.surrounding_id
WHERE i.id = ANY(@inventories)
GROUP BY i.id
ON CONFLICT (inventory_id) DO NOTHING`

	forgetSurroundings = `TRUNCATE tocsin.surrounding, tocsin.occurrence_surrounding, tocsin.inventory_surrounding`

	// unsurrounded are inventories of before there were surroundings, or before
	// the matchers changed.
	unsurrounded = `
SELECT i.id FROM tocsin.inventory i
WHERE i.current AND i.id > @after AND NOT EXISTS (SELECT FROM tocsin.inventory_surrounding g WHERE g.inventory_id = i.id)
ORDER BY i.id LIMIT 1000`
)

// surround notes what surrounds the packages of inventories.
func surround(ctx context.Context, tx pgx.Tx, inventories ...int64) error {
	for _, sql := range []string{insertSurroundings, insertOccurrenceSurroundings, insertInventorySurroundings} {
		if _, err := tx.Exec(ctx, sql, pgx.NamedArgs{"inventories": inventories}); err != nil {
			return fmt.Errorf("surroundings: %w", err)
		}
	}
	return nil
}

// surroundAll does so for all inventories for which nobody has.
func (e *Engine) surroundAll(ctx context.Context) error {
	for after := int64(0); ; {
		rows, err := e.pool.Query(ctx, unsurrounded, pgx.NamedArgs{"after": after})
		if err != nil {
			return fmt.Errorf("surroundings: %w", err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return fmt.Errorf("surroundings: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		after = ids[len(ids)-1]
		err = pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
			// Masks do not change meanwhile, nor is the table emptied.
			if _, err := tx.Exec(ctx, lockBarrierShared, pgx.NamedArgs{"key": BarrierKey}); err != nil {
				return err
			}
			return surround(ctx, tx, ids...)
		})
		if err != nil {
			return err
		}
	}
}

// surroundings remembers which surroundings there are, and which feeds speak of
// their places. An id never means anything else.
type surroundings struct {
	mu       sync.Mutex
	places   map[int32][]place
	speaking map[place][]string // updaters
	feeds    string             // the feeds' operations that speaking is as of
}

const (
	feedVersions = `SELECT coalesce(string_agg(updater || ' ' || op_id, ',' ORDER BY updater), '') FROM tocsin.feed`

	selectSurroundings = `SELECT id, places FROM tocsin.surrounding WHERE NOT id = ANY(@known::integer[])`
)

// learn makes e.surroundings up to date, as db sees the tables. The caller holds
// its lock.
func (e *Engine) learn(ctx context.Context, db querier) error {
	s := &e.surroundings
	if s.places == nil {
		s.places = map[int32][]place{}
	}
	known := make([]int32, 0, len(s.places))
	for id := range s.places {
		known = append(known, id)
	}
	rows, err := db.Query(ctx, selectSurroundings, pgx.NamedArgs{"known": known})
	if err != nil {
		return err
	}
	var id int32
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		places, err := decodePlaces(text)
		s.places[id] = places
		return err
	})
	if err != nil {
		return err
	}
	var feeds string
	if err := db.QueryRow(ctx, feedVersions).Scan(&feeds); err != nil {
		return err
	}
	if s.speaking == nil || feeds != s.feeds {
		s.speaking, s.feeds = map[place][]string{}, feeds
	}
	var found []environment
	for _, places := range s.places {
		for _, p := range places {
			if _, ok := s.speaking[p]; !ok {
				s.speaking[p] = nil
				found = append(found, p.environment)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	scopes, err := scopesOf(ctx, db, found)
	if err != nil {
		s.speaking = nil
		return err
	}
	for p := range s.speaking {
		if s.speaking[p] == nil {
			for u := range e.speakers(p, scopes) {
				s.speaking[p] = append(s.speaking[p], u)
			}
		}
	}
	return nil
}

// decodePlaces reads tocsin.surrounding.places.
func decodePlaces(text []byte) ([]place, error) {
	var rows [][]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // a mask has more bits than a float
	if err := dec.Decode(&rows); err != nil {
		return nil, fmt.Errorf("places: %w", err)
	}
	out := make([]place, len(rows))
	for i, r := range rows {
		p := &out[i]
		into := []*string{&p.DistID, &p.DistName, &p.DistVersion, &p.DistVersionID, &p.DistVersionCodeName, &p.DistPrettyName, &p.DistArch, &p.RepoName, &p.RepoKey}
		if len(r) != len(into)+1 {
			return nil, fmt.Errorf("places: one has %d parts", len(r))
		}
		mask, ok := r[0].(json.Number)
		if !ok {
			return nil, fmt.Errorf("places: the matchers are %v", r[0])
		}
		var err error
		if p.matchers, err = mask.Int64(); err != nil {
			return nil, fmt.Errorf("places: %w", err)
		}
		for j, to := range into {
			if *to, ok = r[j+1].(string); !ok {
				return nil, fmt.Errorf("places: a part is %v", r[j+1])
			}
		}
	}
	return out, nil
}

// covered are the surroundings of whose packages something can be known, or that
// one of the updaters speaks of if some are given.
func (e *Engine) covered(ctx context.Context, db querier, updaters ...string) ([]int32, error) {
	s := &e.surroundings
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := e.learn(ctx, db); err != nil {
		return nil, fmt.Errorf("coverage: %w", err)
	}
	out := []int32{}
	for id, places := range s.places {
		if slices.ContainsFunc(places, func(p place) bool {
			if len(updaters) == 0 {
				return len(s.speaking[p]) > 0
			}
			return slices.ContainsFunc(s.speaking[p], func(u string) bool { return slices.Contains(updaters, u) })
		}) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// coverageSQL is the coverage of an inventory with the surroundings g and of the
// manifest m, NULL where they are not noted.
const coverageSQL = `CASE WHEN g.surroundings <@ @covered::integer[] THEN CASE WHEN cardinality(m.warnings) > 0 THEN '` + schemas.CoveragePartial + `' ELSE '` + schemas.CoverageFull + `' END
       WHEN g.surroundings && @covered::integer[] THEN '` + schemas.CoveragePartial + `' WHEN g.surroundings IS NOT NULL THEN '` + schemas.CoverageNone + `' END`

const (
	hasScope = `SELECT EXISTS (SELECT FROM tocsin.feed_scope WHERE updater = ANY(@updaters::text[]))`

	countDependents = `
SELECT count(*) FROM tocsin.inventory i JOIN tocsin.inventory_surrounding g ON g.inventory_id = i.id
WHERE i.current AND g.surroundings && @covered::integer[]`
)

// Dependents counts the images that have packages of which one of the updaters'
// feeds speaks. known is false if none of them has ever been loaded: what it
// would speak of is not known then.
func (e *Engine) Dependents(ctx context.Context, updaters ...string) (images int, known bool, err error) {
	if err := e.prepare(ctx); err != nil {
		return 0, false, err
	}
	if err := e.refreshScopes(ctx); err != nil {
		return 0, false, err
	}
	if err := e.pool.QueryRow(ctx, hasScope, pgx.NamedArgs{"updaters": updaters}).Scan(&known); err != nil || !known {
		return 0, false, err
	}
	covered, err := e.covered(ctx, e.pool, updaters...)
	if err != nil {
		return 0, false, err
	}
	if err := e.pool.QueryRow(ctx, countDependents, pgx.NamedArgs{"covered": covered}).Scan(&images); err != nil {
		return 0, false, fmt.Errorf("images that depend on %v: %w", updaters, err)
	}
	return images, true, nil
}
