package matcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrOtherMatchers is returned while another process works on the same database
// with other matchers. Which matchers look at a package is stored with the
// package, so that one of the two would miss findings; this process does
// nothing until the other has ended.
var ErrOtherMatchers = errors.New("another process uses this database with other matchers")

// errMatchersChanged says that the stored masks are no longer this process's.
var errMatchersChanged = errors.New("the set of matchers was changed by another process")

const (
	matcherSetting = `matcher.fingerprint`
	readSetting    = `SELECT value FROM tocsin.setting WHERE key = @key`
	writeSetting   = `INSERT INTO tocsin.setting (key, value) VALUES (@key, @value) ON CONFLICT (key) DO UPDATE SET value = excluded.value`

	readBits = `SELECT name, bit FROM tocsin.matcher_bit`
	addBits  = `
INSERT INTO tocsin.matcher_bit (name, bit)
SELECT n.name, (SELECT coalesce(max(b.bit) + 1, 0) FROM tocsin.matcher_bit b) + row_number() OVER (ORDER BY n.name) - 1
FROM unnest(@names::text[]) AS n (name)
WHERE NOT EXISTS (SELECT FROM tocsin.matcher_bit b WHERE b.name = n.name)`

	nextOccurrences = `SELECT id, body FROM tocsin.occurrence WHERE id > @after ORDER BY id LIMIT 2000`
	setMatchers     = `
UPDATE tocsin.occurrence_record r SET matchers = n.matchers, name = n.name
FROM unnest(@ids::integer[], @ordinals::integer[], @matchers::bigint[], @names::text[]) AS n (id, ordinal, matchers, name)
WHERE r.occurrence_id = n.id AND r.ordinal = n.ordinal AND (r.matchers <> n.matchers OR r.name <> n.name)`
)

// prepared runs f, which checks in its transaction, by checkMatchers, that the
// stored masks are those of this engine's matchers. The first call of a process
// makes sure of it, and so does one after another process changed them.
func (e *Engine) prepared(ctx context.Context, f func() error) error {
	for again := false; ; again = true {
		if err := e.prepare(ctx); err != nil {
			return err
		}
		err := f()
		if again || !errors.Is(err, errMatchersChanged) {
			return err
		}
		e.prepareMu.Lock()
		e.ready = false
		e.prepareMu.Unlock()
	}
}

func (e *Engine) prepare(ctx context.Context) error {
	e.prepareMu.Lock()
	defer e.prepareMu.Unlock()
	if e.ready {
		return nil
	}
	if err := e.adopt(ctx); err != nil {
		return fmt.Errorf("adopt the set of matchers: %w", err)
	}
	if err := e.surroundAll(ctx); err != nil {
		return err
	}
	e.ready = true
	return nil
}

// checkMatchers fails with errMatchersChanged if the stored masks are not this
// engine's. The transaction holds ChangeKey or BarrierKey in some mode, or reads
// from one snapshot, so that the answer holds until its end.
func (e *Engine) checkMatchers(ctx context.Context, tx pgx.Tx) error {
	have, err := readFingerprint(ctx, tx)
	if err != nil {
		return err
	}
	if have != e.declared.fingerprint {
		return errMatchersChanged
	}
	return nil
}

func readFingerprint(ctx context.Context, tx pgx.Tx) (string, error) {
	var have string
	err := tx.QueryRow(ctx, readSetting, pgx.NamedArgs{"key": matcherSetting}).Scan(&have)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("matcher settings: %w", err)
	}
	return have, nil
}

// adopt makes the stored masks this engine's, with indexing and changes at rest:
// matchers that have no bit get one, and if the set is another than before every
// record is asked again. It is [ErrOtherMatchers] while a process is at work
// that has the set they were made by.
func (e *Engine) adopt(ctx context.Context) error {
	return e.exclusively(ctx, []int64{ChangeKey, BarrierKey}, func(tx pgx.Tx) error {
		have, err := readFingerprint(ctx, tx)
		if err != nil {
			return err
		}
		same := have == e.declared.fingerprint
		if !same {
			if err := e.refuseOthers(ctx, tx, have); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, addBits, pgx.NamedArgs{"names": e.declared.names()}); err != nil {
				return fmt.Errorf("bits of the matchers (a database holds %d matchers over its life): %w", maxMatchers, err)
			}
		}
		bits, err := bitsByName(ctx, tx)
		if err != nil {
			return err
		}
		set := *e.declared
		if !set.assign(bits) {
			return errors.New("a matcher has no bit, although the database was prepared for it (was tocsin.matcher_bit edited?)")
		}
		if !same {
			if err := recompute(ctx, tx, &set); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, forgetSurroundings); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, writeSetting, pgx.NamedArgs{"key": matcherSetting, "value": set.fingerprint}); err != nil {
				return err
			}
		}
		// A bit never changes, so that what was assigned before is assigned again.
		if e.matchers == nil {
			e.matchers, e.sql = &set, set.texts()
		}
		return nil
	})
}

func bitsByName(ctx context.Context, tx pgx.Tx) (map[string]int, error) {
	rows, err := tx.Query(ctx, readBits)
	if err != nil {
		return nil, fmt.Errorf("bits of the matchers: %w", err)
	}
	bits := make(map[string]int)
	var name string
	var bit int
	_, err = pgx.ForEachRow(rows, []any{&name, &bit}, func() error {
		bits[name] = bit
		return nil
	})
	return bits, err
}

// refuseOthers is [ErrOtherMatchers] if a process is at work whose matchers made
// the stored masks.
func (e *Engine) refuseOthers(ctx context.Context, tx pgx.Tx, have string) error {
	var host string
	var pid int
	var names []string
	err := tx.QueryRow(ctx, findProcess, pgx.NamedArgs{"fingerprint": have, "seconds": aliveFor.Seconds()}).Scan(&host, &pid, &names)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("other processes: %w", err)
	}
	return fmt.Errorf("%w: process %d on %s%s; give all processes that share a database the same matcher.names, matcher.config and version of Tocsin, "+
		"or stop the others: this one takes over by itself, at most %v after the last of them ended", ErrOtherMatchers, pid, host, difference(names, e.declared.names()), aliveFor)
}

// difference tells which matchers only one of two processes has.
func difference(there, here []string) string {
	var parts []string
	for _, side := range []struct {
		what           string
		these, without []string
	}{{"it alone has", there, here}, {"this one alone has", here, there}} {
		only := slices.DeleteFunc(slices.Clone(side.these), func(n string) bool { return slices.Contains(side.without, n) })
		if len(only) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", side.what, strings.Join(only, ", ")))
		}
	}
	if len(parts) == 0 {
		return " has the same matchers of another version"
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// recompute asks the matchers about every record again.
func recompute(ctx context.Context, tx pgx.Tx, set *matcherSet) error {
	var after int32
	for {
		last, err := recomputeBatch(ctx, tx, set, after)
		if err != nil || last == after {
			return err
		}
		after = last
	}
}

// recomputeBatch does the occurrences after the given one and returns the last
// it saw.
func recomputeBatch(ctx context.Context, tx pgx.Tx, set *matcherSet, after int32) (int32, error) {
	rows, err := tx.Query(ctx, nextOccurrences, pgx.NamedArgs{"after": after})
	if err != nil {
		return 0, err
	}
	var ids, ordinals []int32
	var masks []int64
	var names []string
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
			ids, ordinals, masks = append(ids, id), append(ordinals, int32(i)), append(masks, set.interested(r))
			names = append(names, matchName(r))
		}
		after = id
		return nil
	})
	if err != nil || len(ids) == 0 {
		return after, err
	}
	_, err = tx.Exec(ctx, setMatchers, pgx.NamedArgs{"ids": ids, "ordinals": ordinals, "matchers": masks, "names": names})
	return after, err
}
