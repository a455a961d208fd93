package matcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/quay/claircore"
)

// Unrecorded finds index reports that somebody else made: Clair, whose database
// this was or still is.
type Unrecorded interface {
	// Unrecorded returns manifests that have a finished index report and no
	// inventory, of which none was deleted here, after the place that the call
	// before returned, and makes them known to Tocsin without a name.
	Unrecorded(ctx context.Context, after int64, limit int) (batch []Manifest, next int64, err error)
}

// TakeoverState is how far the takeover of Clair's images is.
type TakeoverState struct {
	Images, Recorded, Failed int
	Started                  time.Time
	Finished                 *time.Time // nil while it goes on
}

const (
	beginTakeover = `
INSERT INTO tocsin.takeover (images, finished_at) VALUES (@images, CASE WHEN @images = 0 THEN now() END)
ON CONFLICT (one) DO NOTHING`
	insertTold = `INSERT INTO tocsin.told (op_id) SELECT unnest(@ids::bigint[])`

	readTakeover   = `SELECT images, recorded, failed, started_at, finished_at FROM tocsin.takeover`
	isTakingOver   = `SELECT EXISTS (SELECT FROM tocsin.takeover WHERE finished_at IS NULL)`
	noteTaken      = `UPDATE tocsin.takeover SET recorded = recorded + @recorded, failed = failed + @failed WHERE finished_at IS NULL`
	finishTakeover = `UPDATE tocsin.takeover SET finished_at = now() WHERE finished_at IS NULL`

	passTold = `DELETE FROM tocsin.told WHERE op_id = @id`
)

// takeoverKey is the advisory lock of the process that records inventories of
// Clair's index reports.
const takeoverKey int64 = 0x746f6373_00040004

// takeoverBatch is how many manifests are looked up at a time.
const takeoverBatch = 100

// BeginTakeover decides, the first time that Tocsin sees a database, what it
// takes over: the cursors are put where Clair's notifier has come to. Until
// [Engine.Run] has recorded the inventories of Clair's images, updates wait.
// Every process calls it before it starts anything that writes updates.
func (e *Engine) BeginTakeover(ctx context.Context) error {
	// Once decided, it stays so: nobody has to wait for a change under way.
	var begun bool
	if err := e.pool.QueryRow(ctx, hasBegun).Scan(&begun); err != nil {
		return fmt.Errorf("take over from Clair: %w", err)
	}
	if begun {
		return nil
	}
	err := pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockBarrier, pgx.NamedArgs{"key": ChangeKey}); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, hasBegun).Scan(&begun); err != nil || begun {
			return err
		}
		t, err := planTakeover(ctx, tx)
		if err != nil || t.Begun {
			return err
		}
		if _, err := tx.Exec(ctx, beginTakeover, pgx.NamedArgs{"images": t.Images}); err != nil {
			return err
		}
		if t.Images > 0 || len(t.Feeds) > 0 {
			e.log.InfoContext(ctx, "taking over a database that Clair has filled", "images", t.Images, "feeds", len(t.Feeds),
				"notifier", t.Notifier, "open", t.Open, "lost", t.Lost)
		}
		return e.takeCursors(ctx, tx, t)
	})
	if err != nil {
		return fmt.Errorf("take over from Clair: %w", err)
	}
	return nil
}

func (e *Engine) takeCursors(ctx context.Context, tx pgx.Tx, t *Takeover) error {
	for _, f := range t.Feeds {
		e.log.InfoContext(ctx, "feed taken over", "updater", f.Updater, "told_until", f.Told, "to_tell", f.Next,
			"undelivered", f.Undelivered, "basis", f.Basis)
		if f.cursor != nil {
			s := step{feed: feed{f.Updater, kindVulnerability}, cur: f.cursor.operation}
			if err := s.move(ctx, tx); err != nil {
				return err
			}
		}
		if len(f.silent) > 0 {
			if _, err := tx.Exec(ctx, insertTold, pgx.NamedArgs{"ids": f.silent}); err != nil {
				return err
			}
		}
	}
	for _, o := range t.enrichments {
		s := step{feed: feed{o.updater, kindEnrichment}, cur: o.operation}
		if err := s.move(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// Takeover says how far the takeover is; nil if there was nothing to take over.
func (e *Engine) Takeover(ctx context.Context) (*TakeoverState, error) {
	var s TakeoverState
	err := e.pool.QueryRow(ctx, readTakeover).Scan(&s.Images, &s.Recorded, &s.Failed, &s.Started, &s.Finished)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && s.Images == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the takeover: %w", err)
	}
	return &s, nil
}

// TakeOver records the inventories of index reports that Clair has made, without
// announcing them, and lets updates go on. It returns at once where another
// process does so, and continues where one ended. An index report that can't be
// recorded is logged and left.
func (e *Engine) TakeOver(ctx context.Context) error {
	if e.opts.Unrecorded == nil {
		return nil
	}
	unlock, locked, err := e.tryLock(ctx, takeoverKey)
	if err != nil {
		return fmt.Errorf("take over from Clair: %w", err)
	}
	if !locked {
		return nil
	}
	defer unlock()
	if err := e.recordUnrecorded(ctx); err != nil {
		return fmt.Errorf("take over from Clair: %w", err)
	}
	if _, err := e.pool.Exec(ctx, finishTakeover); err != nil {
		return fmt.Errorf("take over from Clair: %w", err)
	}
	return nil
}

func (e *Engine) recordUnrecorded(ctx context.Context) error {
	var after int64
	recorded, failed := 0, 0
	said := time.Now()
	for {
		batch, next, err := e.opts.Unrecorded.Unrecorded(ctx, after, takeoverBatch)
		if err != nil {
			return err
		}
		if next == after {
			break
		}
		after = next
		bad := 0
		for _, m := range batch {
			err := e.recordFound(ctx, m)
			switch {
			case errors.Is(err, errUnfit):
				bad++
				e.log.WarnContext(ctx, "an index report of Clair's can't be taken over", "manifest", m.Digest, "reason", err)
			case err != nil && !errors.Is(err, ErrUnknownManifest): // deleted meanwhile
				return err
			}
		}
		if _, err := e.pool.Exec(ctx, noteTaken, pgx.NamedArgs{"recorded": len(batch) - bad, "failed": bad}); err != nil {
			return err
		}
		recorded, failed = recorded+len(batch)-bad, failed+bad
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			e.log.InfoContext(ctx, "recording images of Clair's", "recorded", recorded, "failed", failed)
		}
	}
	if recorded+failed > 0 {
		e.log.InfoContext(ctx, "images of Clair's recorded", "recorded", recorded, "failed", failed)
	}
	return nil
}

// errUnfit says that the index report itself is the reason.
var errUnfit = errors.New("unfit index report")

// unreadable reports whether the error is about what was stored, and not about
// reaching it: another attempt finds the same.
func unreadable(err error) bool {
	if _, ok := errors.AsType[pgx.ScanArgError](err); ok {
		return true
	}
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pe.Code, "22") || strings.HasPrefix(pe.Code, "54")) // data exception, limit exceeded
}

// recordFound records the inventory of one manifest in silence.
func (e *Engine) recordFound(ctx context.Context, m Manifest) error {
	digest, err := claircore.ParseDigest(m.Digest)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	report, ok, err := e.reports.IndexReport(ctx, digest)
	switch {
	case unreadable(err):
		return fmt.Errorf("%w: %w", errUnfit, err)
	case err != nil:
		return err
	case !ok || !report.Success:
		return fmt.Errorf("%w: it is not that of a finished index", errUnfit)
	case len(report.Packages) > MaxPackages:
		return fmt.Errorf("%w: %w: %d, at most %d", errUnfit, ErrTooManyPackages, len(report.Packages), MaxPackages)
	}
	occurrences, err := occurrencesOf(report)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	said := inventoried{packages: len(report.Packages), occurrences: occurrences, silent: true}
	return e.prepared(ctx, func() error { return e.recordInventory(ctx, m, said) })
}

// passTold moves the cursor over an operation that Clair's notifier has told of.
func (s *step) passTold(ctx context.Context, tx pgx.Tx) (bool, error) {
	if s.kind != kindVulnerability {
		return false, nil
	}
	tag, err := tx.Exec(ctx, passTold, pgx.NamedArgs{"id": s.cur.id})
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	return true, s.move(ctx, tx)
}
