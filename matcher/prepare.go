package matcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	matcherSetting  = `matcher.fingerprint`
	readSetting     = `SELECT value FROM tocsin.setting WHERE key = @key`
	writeSetting    = `INSERT INTO tocsin.setting (key, value) VALUES (@key, @value) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	nextOccurrences = `SELECT id, body FROM tocsin.occurrence WHERE id > @after ORDER BY id LIMIT 2000`
	setMatchers     = `
UPDATE tocsin.occurrence_record r SET matchers = n.matchers
FROM unnest(@ids::integer[], @ordinals::integer[], @matchers::bigint[]) AS n (id, ordinal, matchers)
WHERE r.occurrence_id = n.id AND r.ordinal = n.ordinal AND r.matchers <> n.matchers`
)

// prepare makes sure that the stored masks are those of this engine's matchers.
// The first call of a process looks; if the matchers have changed since, every
// record is asked again, with indexing and changes at rest. Processes with
// different matchers must not share a database.
func (e *Engine) prepare(ctx context.Context) error {
	e.prepareMu.Lock()
	defer e.prepareMu.Unlock()
	if e.prepared {
		return nil
	}
	var have string
	err := e.pool.QueryRow(ctx, readSetting, pgx.NamedArgs{"key": matcherSetting}).Scan(&have)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("matcher settings: %w", err)
	}
	if have != e.matchers.fingerprint {
		if err := e.recompute(ctx); err != nil {
			return fmt.Errorf("adopt the changed set of matchers: %w", err)
		}
	}
	e.prepared = true
	return nil
}

// recompute asks the matchers about every record again.
func (e *Engine) recompute(ctx context.Context) error {
	return pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		for _, key := range []int64{ChangeKey, BarrierKey} {
			if _, err := tx.Exec(ctx, lockBarrier, pgx.NamedArgs{"key": key}); err != nil {
				return err
			}
		}
		var after int32
		for {
			last, err := e.recomputeBatch(ctx, tx, after)
			if err != nil {
				return err
			}
			if last == after {
				break
			}
			after = last
		}
		_, err := tx.Exec(ctx, writeSetting, pgx.NamedArgs{"key": matcherSetting, "value": e.matchers.fingerprint})
		return err
	})
}

// recomputeBatch does the occurrences after the given one and returns the last
// it saw.
func (e *Engine) recomputeBatch(ctx context.Context, tx pgx.Tx, after int32) (int32, error) {
	rows, err := tx.Query(ctx, nextOccurrences, pgx.NamedArgs{"after": after})
	if err != nil {
		return 0, err
	}
	var ids, ordinals []int32
	var masks []int64
	var id int32
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &body}, func() error {
		var o occurrence
		if err := json.Unmarshal(body, &o); err != nil {
			return fmt.Errorf("occurrence %d: %w", id, err)
		}
		records, err := o.indexRecords("")
		if err != nil {
			return fmt.Errorf("occurrence %d: %w", id, err)
		}
		for i, r := range records {
			ids, ordinals, masks = append(ids, id), append(ordinals, int32(i)), append(masks, e.matchers.interested(r))
		}
		after = id
		return nil
	})
	if err != nil || len(ids) == 0 {
		return after, err
	}
	_, err = tx.Exec(ctx, setMatchers, pgx.NamedArgs{"ids": ids, "ordinals": ordinals, "matchers": masks})
	return after, err
}
