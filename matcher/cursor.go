package matcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// Kinds of update operations, as claircore has them.
const (
	kindVulnerability = "vulnerability"
	kindEnrichment    = "enrichment"
)

// feed is one updater's operations of one kind. claircore makes the row of an
// enrichment operation before its data, and leaves it when the data fail: one
// without data is not there yet.
type feed struct {
	updater, kind string
}

// operation is one update operation.
type operation struct {
	id   int64
	ref  uuid.UUID
	date time.Time
}

const (
	// nextFeeds lists the feeds with operations newer than their cursors, the
	// one whose next is oldest first.
	nextFeeds = `
SELECT o.updater, o.kind, min(o.id)
FROM public.update_operation o LEFT JOIN tocsin.cursor c ON c.updater = o.updater
WHERE o.kind = 'vulnerability' AND o.id > coalesce(c.op_id, 0)
GROUP BY o.updater, o.kind
UNION ALL
SELECT o.updater, o.kind, min(o.id)
FROM public.update_operation o LEFT JOIN tocsin.enrichment_cursor c ON c.updater = o.updater
WHERE o.kind = 'enrichment' AND o.id > coalesce(c.op_id, 0) AND EXISTS (SELECT FROM public.uo_enrich u WHERE u.uo = o.id)
GROUP BY o.updater, o.kind
ORDER BY 3`

	// The cursor's operation counts only while it is there.
	readVulnerabilityCursor = `
SELECT o.id, o.ref, o.date FROM tocsin.cursor c JOIN public.update_operation o ON o.id = c.op_id WHERE c.updater = @updater`
	readEnrichmentCursor = `
SELECT o.id, o.ref, o.date FROM tocsin.enrichment_cursor c JOIN public.update_operation o ON o.id = c.op_id WHERE c.updater = @updater`

	nextVulnerability = `
SELECT id, ref, date FROM public.update_operation
WHERE updater = @updater AND kind = 'vulnerability' AND id > coalesce((SELECT op_id FROM tocsin.cursor WHERE updater = @updater), 0)
ORDER BY id LIMIT 1`
	nextEnrichment = `
SELECT id, ref, date FROM public.update_operation o
WHERE updater = @updater AND kind = 'enrichment' AND id > coalesce((SELECT op_id FROM tocsin.enrichment_cursor WHERE updater = @updater), 0)
  AND EXISTS (SELECT FROM public.uo_enrich u WHERE u.uo = o.id)
ORDER BY id LIMIT 1`

	moveVulnerabilityCursor = `
INSERT INTO tocsin.cursor (updater, op_id, ref, date) VALUES (@updater, @id, @ref, @date)
ON CONFLICT (updater) DO UPDATE SET op_id = excluded.op_id, ref = excluded.ref, date = excluded.date`
	moveEnrichmentCursor = `
INSERT INTO tocsin.enrichment_cursor (updater, op_id, ref, date) VALUES (@updater, @id, @ref, @date)
ON CONFLICT (updater) DO UPDATE SET op_id = excluded.op_id, ref = excluded.ref, date = excluded.date`
)

// pending lists the feeds that have a next step, in the order in which the
// operations landed.
func pending(ctx context.Context, tx pgx.Tx) ([]feed, error) {
	rows, err := tx.Query(ctx, nextFeeds)
	if err != nil {
		return nil, fmt.Errorf("look for update operations: %w", err)
	}
	var out []feed
	var f feed
	var oldest int64
	_, err = pgx.ForEachRow(rows, []any{&f.updater, &f.kind, &oldest}, func() error {
		out = append(out, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for update operations: %w", err)
	}
	return out, nil
}

func pick(kind, vulnerability, enrichment string) string {
	if kind == kindEnrichment {
		return enrichment
	}
	return vulnerability
}

// step is a feed's move from one operation (nil on a first load) to the next.
type step struct {
	feed
	prev *operation
	cur  operation
}

// next finds the next step of a feed that has one. A cursor whose operation somebody
// deleted makes the step a first load again: what was before can't be known.
func (f feed) next(ctx context.Context, tx pgx.Tx) (*step, error) {
	s := &step{feed: f}
	cur, err := readOperation(ctx, tx, pick(f.kind, nextVulnerability, nextEnrichment), f.updater)
	if err != nil {
		return nil, err
	}
	if cur == nil {
		return nil, errors.New("the next update operation has been deleted meanwhile")
	}
	s.cur = *cur
	s.prev, err = readOperation(ctx, tx, pick(f.kind, readVulnerabilityCursor, readEnrichmentCursor), f.updater)
	return s, err
}

func readOperation(ctx context.Context, tx pgx.Tx, sql, updater string) (*operation, error) {
	var o operation
	err := tx.QueryRow(ctx, sql, pgx.NamedArgs{"updater": updater}).Scan(&o.id, &o.ref, &o.date)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &o, err
}

// prevID is the previous operation's id, or 0, which is no operation's.
func (s *step) prevID() int64 {
	if s.prev == nil {
		return 0
	}
	return s.prev.id
}

// update is the step as an event describes it.
func (s *step) update() schemas.Update {
	u := schemas.Update{Updater: s.updater, Ref: s.cur.ref.String(), Date: s.cur.date.UTC(), FirstLoad: s.prev == nil}
	if s.prev != nil {
		u.Previous = s.prev.ref.String()
	}
	return u
}

func (s *step) move(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, pick(s.kind, moveVulnerabilityCursor, moveEnrichmentCursor),
		pgx.NamedArgs{"updater": s.updater, "id": s.cur.id, "ref": s.cur.ref, "date": s.cur.date})
	return err
}
