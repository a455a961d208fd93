package matcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Takeover is what a database that Clair has filled holds for Tocsin.
type Takeover struct {
	// Begun says that Tocsin has worked on this database before: cursors are its
	// own, and only index reports without an inventory are recorded.
	Begun bool `json:"begun"`
	// Images counts the finished index reports to make inventories of.
	Images int `json:"images"`
	// Notifier says that Clair's notifier has its tables here.
	Notifier bool `json:"notifier"`
	// Feeds are the updaters of vulnerabilities, by name.
	Feeds []TakenFeed `json:"feeds"`
	// Lost counts notifications that Clair made and did not deliver, of updates
	// that are no longer in the database: they can't be told of.
	Lost int `json:"lost"`
	// Open counts delivered notifications that clients have not deleted. They
	// stay readable by their ids.
	Open int `json:"open"`

	enrichments []clairOperation // the newest of each
}

// Bases of what is known to be told of a feed.
const (
	BasisReceipts = "receipts"       // of the feed itself
	BasisOthers   = "other receipts" // what Clair's notifier told of other feeds later
	BasisNone     = "no receipts"    // nobody was told; what comes from now on is
)

// TakenFeed is how far Clair's notifier came with one updater.
type TakenFeed struct {
	Updater string `json:"updater"`
	// Operations counts the update operations in the database.
	Operations int `json:"operations"`
	// Told is when the newest operation that was told of, or needs not be, was
	// made; the zero time if there is none.
	Told time.Time `json:"told,omitzero"`
	// Next counts operations that Tocsin will tell of, Undelivered those of them
	// that Clair had made a notification of which it never delivered.
	Next        int    `json:"next"`
	Undelivered int    `json:"undelivered"`
	Basis       string `json:"basis"`

	cursor *clairOperation // the last of those before the first to tell of
	silent []int64         // those told of after the cursor
}

// clairOperation is an update operation and what Clair's notifier says of it.
type clairOperation struct {
	operation
	updater string
	status  string // of its receipt; "" if it has none
}

const (
	haveTables = `
SELECT to_regclass('public.update_operation') IS NOT NULL, to_regclass('public.indexreport') IS NOT NULL,
  to_regclass('public.receipt') IS NOT NULL AND to_regclass('public.notification_body') IS NOT NULL,
  to_regclass('tocsin.cursor') IS NOT NULL, to_regclass('tocsin.takeover') IS NOT NULL`

	countFinished = `SELECT count(*) FROM public.indexreport WHERE scan_result -> 'success' = 'true'`

	// A report is large, and only those of manifests without an inventory are read.
	countUnrecorded = `
WITH found AS MATERIALIZED (
  SELECT c.id FROM public.manifest c LEFT JOIN tocsin.manifest m ON m.digest = c.hash
  WHERE m.id IS NULL OR m.state = 'indexed' AND m.inventory_id IS NULL
)
SELECT count(*) FROM found f
WHERE (SELECT r.scan_result -> 'success' FROM public.indexreport r WHERE r.manifest_id = f.id) = 'true'`

	hasBegun          = `SELECT EXISTS (SELECT FROM tocsin.takeover)`
	hasCursors        = `SELECT EXISTS (SELECT FROM tocsin.cursor)`
	newestEnrichments = `
SELECT DISTINCT ON (o.updater) o.id, o.ref, o.date, o.updater, ''
FROM public.update_operation o
WHERE o.kind = 'enrichment' AND EXISTS (SELECT FROM public.uo_enrich u WHERE u.uo = o.id)
ORDER BY o.updater, o.id DESC`
	operationsAlone = `SELECT id, ref, date, updater, '' FROM public.update_operation WHERE kind = 'vulnerability' ORDER BY updater, id`
)

// Clair's notifier has tables that no migration here makes.
var (
	operationsTold = `
SELECT o.id, o.ref, o.date, o.updater, coalesce(min(r.status::text), '')
FROM public.update_operation o LEFT JOIN public.receipt r ON r.uo_id = o.ref
WHERE o.kind = 'vulnerability'
GROUP BY o.id, o.ref, o.date, o.updater ORDER BY o.updater, o.id`

	countReceipts = `
SELECT count(*) FILTER (WHERE r.status::text IN ('created', 'delivery_failed') AND o.id IS NULL AND EXISTS
    (SELECT FROM public.notification_body b WHERE b.notification_id = r.notification_id)),
  count(*) FILTER (WHERE r.status::text = 'delivered')
FROM public.receipt r LEFT JOIN public.update_operation o ON o.ref = r.uo_id`
)

// reader is a pool or a transaction.
type reader interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// PlanTakeover reads what there is to take over in a database that may have
// been Clair's until now. It writes nothing, and needs none of Tocsin's tables.
func PlanTakeover(ctx context.Context, pool *pgxpool.Pool) (*Takeover, error) {
	t, err := planTakeover(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("look for what Clair left: %w", err)
	}
	return t, nil
}

func planTakeover(ctx context.Context, db reader) (*Takeover, error) {
	t := &Takeover{Feeds: []TakenFeed{}}
	var matched, indexed, ours, begun bool
	if err := db.QueryRow(ctx, haveTables).Scan(&matched, &indexed, &t.Notifier, &ours, &begun); err != nil {
		return nil, err
	}
	for _, q := range []struct {
		there bool
		sql   string
	}{{begun, hasBegun}, {ours, hasCursors}} {
		if !q.there || t.Begun {
			continue
		}
		if err := db.QueryRow(ctx, q.sql).Scan(&t.Begun); err != nil {
			return nil, err
		}
	}
	if indexed {
		count := countFinished
		if ours {
			count = countUnrecorded
		}
		if err := db.QueryRow(ctx, count).Scan(&t.Images); err != nil {
			return nil, err
		}
	}
	if t.Notifier {
		if err := db.QueryRow(ctx, countReceipts).Scan(&t.Lost, &t.Open); err != nil {
			return nil, err
		}
	}
	if !matched || t.Begun {
		return t, nil
	}
	sql := operationsAlone
	if t.Notifier {
		sql = operationsTold
	}
	all, err := readClairOperations(ctx, db, sql)
	if err != nil {
		return nil, err
	}
	t.Feeds = feedsTold(all)
	t.enrichments, err = readClairOperations(ctx, db, newestEnrichments)
	return t, err
}

func readClairOperations(ctx context.Context, db reader, sql string) ([]clairOperation, error) {
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	var out []clairOperation
	var o clairOperation
	_, err = pgx.ForEachRow(rows, []any{&o.id, &o.ref, &o.date, &o.updater, &o.status}, func() error {
		out = append(out, o)
		return nil
	})
	return out, err
}

// feedsTold decides of every operation whether Clair's notifier has told of it.
// all is in the order of updaters, then of ids.
//
// A receipt says it. Clair deletes receipts some time after a client has deleted
// the notification, so an operation without one was told of, too, if Clair came
// to a later one of the same feed. Of a feed without any receipt, those count as
// told that were there when Clair told of another feed, since it looks at all of
// them at a time. Where there is no receipt at all, nothing of the past is told.
func feedsTold(all []clairOperation) []TakenFeed {
	var watermark int64
	for _, o := range all {
		if o.status != "" {
			watermark = max(watermark, o.id)
		}
	}
	out := []TakenFeed{}
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(o clairOperation) bool { return o.updater != all[0].updater })
		if n < 0 {
			n = len(all)
		}
		out = append(out, feedTold(all[:n], watermark))
		all = all[n:]
	}
	return out
}

func feedTold(ops []clairOperation, watermark int64) TakenFeed {
	f := TakenFeed{Updater: ops[0].updater, Operations: len(ops), Basis: BasisReceipts}
	var reached int64
	for _, o := range ops {
		if o.status != "" {
			reached = o.id
		}
	}
	switch {
	case reached != 0:
	case watermark != 0:
		f.Basis, reached = BasisOthers, watermark
	default:
		f.Basis, reached = BasisNone, ops[len(ops)-1].id
	}
	for _, o := range ops {
		undelivered := o.status == "created" || o.status == "delivery_failed"
		if o.id > reached || undelivered {
			f.Next++
			if undelivered {
				f.Undelivered++
			}
			continue
		}
		f.Told = o.date
		if f.Next == 0 {
			f.cursor = &o
		} else {
			f.silent = append(f.silent, o.id)
		}
	}
	return f
}
