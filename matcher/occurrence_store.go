package matcher

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
)

// storeBatch is how many occurrences are written in one statement.
const storeBatch = 1000

const (
	findOccurrences = `SELECT key, id FROM tocsin.occurrence WHERE key = ANY(@keys)`
	// The rows go in by key, so that two transactions that bring the same ones
	// wait for each other instead of for ever.
	insertOccurrences = `
INSERT INTO tocsin.occurrence (key, body)
SELECT n.key, n.body::jsonb FROM unnest(@keys::bytea[], @bodies::text[]) AS n (key, body) ORDER BY n.key
ON CONFLICT (key) DO NOTHING
RETURNING key, id`
)

// storeOccurrences makes sure that the occurrences, which must be sorted by
// key, have rows, and returns their ids in ascending order.
func (e *Engine) storeOccurrences(ctx context.Context, tx pgx.Tx, os []keyed) ([]int32, error) {
	ids := make([]int32, 0, len(os))
	for batch := range slices.Chunk(os, storeBatch) {
		known, err := keyIDs(ctx, tx, findOccurrences, pgx.NamedArgs{"keys": keysOf(batch)})
		if err != nil {
			return nil, err
		}
		missing := slices.DeleteFunc(slices.Clone(batch), func(k keyed) bool { _, ok := known[k.key]; return ok })
		if len(missing) > 0 {
			if err := e.insertOccurrences(ctx, tx, missing, known); err != nil {
				return nil, err
			}
		}
		for _, k := range batch {
			id, ok := known[k.key]
			if !ok {
				return nil, fmt.Errorf("occurrence %x was stored and is not there", k.key)
			}
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// insertOccurrences stores what is missing and adds the ids to known. What
// another transaction stores at the same time is that one's, records included.
func (e *Engine) insertOccurrences(ctx context.Context, tx pgx.Tx, missing []keyed, known map[[32]byte]int32) error {
	bodies := make([]string, len(missing))
	for i, k := range missing {
		bodies[i] = string(k.body)
	}
	keys := keysOf(missing)
	mine, err := keyIDs(ctx, tx, insertOccurrences, pgx.NamedArgs{"keys": keys, "bodies": bodies})
	if err != nil {
		return err
	}
	var rows [][]any
	for _, k := range missing {
		id, ok := mine[k.key]
		if !ok {
			continue
		}
		known[k.key] = id
		rs, err := e.recordRows(id, &k.occurrence)
		if err != nil {
			return err
		}
		rows = append(rows, rs...)
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"tocsin", "occurrence_record"}, recordColumns, pgx.CopyFromRows(rows)); err != nil {
		return fmt.Errorf("store occurrence records: %w", err)
	}
	if len(mine) == len(missing) {
		return nil
	}
	theirs, err := keyIDs(ctx, tx, findOccurrences, pgx.NamedArgs{"keys": keys})
	if err != nil {
		return err
	}
	for k, id := range theirs {
		known[k] = id
	}
	return nil
}

var recordColumns = []string{
	"occurrence_id", "ordinal", "matchers", "name", "kind", "source_name", "source_kind", "module", "norm_kind", "norm_version",
	"dist_id", "dist_name", "dist_version", "dist_version_id", "dist_version_code_name", "dist_pretty_name", "dist_arch",
	"repo_name", "repo_key",
}

// recordRows are the rows of tocsin.occurrence_record for one occurrence.
func (e *Engine) recordRows(id int32, o *occurrence) ([][]any, error) {
	records, err := o.indexRecords("")
	if err != nil {
		return nil, err
	}
	rows := make([][]any, len(records))
	for i, r := range records {
		d, repo := r.Distribution, r.Repository
		if d == nil {
			d = &claircore.Distribution{}
		}
		if repo == nil {
			repo = &claircore.Repository{}
		}
		p := r.Package
		rows[i] = []any{
			id, int32(i), e.matchers.interested(r), matchName(r), kindText(p), p.Source.Name, kindText(p.Source), p.Module,
			p.NormalizedVersion.Kind, p.NormalizedVersion.V[:],
			d.DID, d.Name, d.Version, d.VersionID, d.VersionCodeName, d.PrettyName, d.Arch, repo.Name, repo.Key,
		}
	}
	return rows, nil
}

func keysOf(os []keyed) [][]byte {
	out := make([][]byte, len(os))
	for i := range os {
		out[i] = os[i].key[:]
	}
	return out
}

func keyIDs(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) (map[[32]byte]int32, error) {
	out := make(map[[32]byte]int32)
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, fmt.Errorf("occurrences: %w", err)
	}
	var key []byte
	var id int32
	_, err = pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		out[[32]byte(key)] = id
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("occurrences: %w", err)
	}
	return out, nil
}
