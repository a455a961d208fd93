package oracle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libvuln"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/matchers"
	"github.com/quay/claircore/nodejs"

	"tocsin.dev/tocsin/internal/vulnstore"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// Setup is where scenarios are played: an engine, and libvuln beside it. It is
// not safe for concurrent use.
type Setup struct {
	scanner  *libvuln.Libvuln
	pool     *pgxpool.Pool   // the engine's
	pools    []*pgxpool.Pool // that updates are written to; the engine's is the last
	engine   *matcher.Engine
	recorder *recorder
	matchers []driver.Matcher // claircore's
	reports  reports
	known    scores // what enrichments say, of this and of earlier scenarios
}

// reports are the index reports of the scenario under way, by digest.
type reports map[string]*claircore.IndexReport

// IndexReport implements [matcher.IndexReports].
func (r reports) IndexReport(_ context.Context, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	ir, ok := r[d.String()]
	return ir, ok, nil
}

// NewSetup makes a setup in which claircore and the engine share a database.
func NewSetup(ctx context.Context, pool *pgxpool.Pool) (*Setup, error) {
	return NewSplitSetup(ctx, pool, pool)
}

// NewSplitSetup makes a setup in which libvuln scans one database and the
// engine works on another; every update is written to both. What is done to
// the engine's database then shows in events only.
func NewSplitSetup(ctx context.Context, truth, engine *pgxpool.Pool) (*Setup, error) {
	w := &Setup{pool: engine, pools: []*pgxpool.Pool{engine}, recorder: &recorder{}, reports: reports{}, known: newScores()}
	if engine != truth {
		w.pools = []*pgxpool.Pool{truth, engine}
	}
	offline := &http.Client{Transport: offline{}}
	ms, err := matchers.NewMatchers(ctx, offline, matchers.WithOutOfTree([]driver.Matcher{&nodejs.Matcher{}}))
	if err != nil {
		return nil, err
	}
	w.matchers = slices.Clone(ms)
	for i, m := range deviating(ms) {
		ms[i] = matcher.Lenient(m)
	}
	w.scanner, err = libvuln.New(ctx, &libvuln.Options{
		Store: matcher.Store(postgres.NewMatcherStore(truth)), Client: offline,
		MatcherNames: []string{}, Matchers: ms, UpdaterSets: []string{},
		UpdateRetention: libvuln.DefaultUpdateRetention, DisableBackgroundUpdates: true,
	})
	if err != nil {
		return nil, err
	}
	w.engine, err = matcher.New(ctx, matcher.Options{
		Pool: engine, Announcer: w.recorder, Reports: w.reports, Retention: 2, Logger: slog.New(slog.DiscardHandler),
	})
	return w, err
}

type offline struct{}

func (offline) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, errors.New("the oracle has no network")
}

// write writes an update and returns the reference under which the engine will
// find it: by the store that updaters use, or by claircore's.
func (w *Setup) write(ctx context.Context, u *Update) (ref uuid.UUID, err error) {
	for _, pool := range w.pools {
		switch theirs := postgres.NewMatcherStore(pool); {
		case !u.Shared:
			ref, err = writeOurs(ctx, pool, u)
		case u.Delta:
			ref, err = theirs.DeltaUpdateVulnerabilities(ctx, u.Updater, "", u.Vulns, u.Deleted)
		default:
			ref, err = theirs.UpdateVulnerabilities(ctx, u.Updater, "", u.Vulns)
		}
		if err != nil {
			return uuid.Nil, fmt.Errorf("write an update: %w", err)
		}
	}
	return ref, nil
}

func writeOurs(ctx context.Context, pool *pgxpool.Pool, u *Update) (uuid.UUID, error) {
	var stored vulnstore.Stored
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
		stored, err = vulnstore.Write(ctx, tx, vulnstore.Update{
			Updater: u.Updater, Delta: u.Delta, Deleted: u.Deleted,
			Vulns: func(yield func(*claircore.Vulnerability, error) bool) {
				for _, v := range u.Vulns {
					if !yield(v, nil) {
						return
					}
				}
			},
		})
		return err
	})
	if err != nil {
		return uuid.Nil, err
	}
	_, err = pool.Exec(ctx, vulnstore.RefreshLatest)
	return stored.Ref, err
}

// enrich writes an enrichment as it is after a change.
func (w *Setup) enrich(ctx context.Context, e *Enrich) (ref uuid.UUID, err error) {
	records := e.apply(w.known)
	for _, pool := range w.pools {
		if ref, err = postgres.NewMatcherStore(pool).UpdateEnrichments(ctx, e.Updater, "", records); err != nil {
			return uuid.Nil, fmt.Errorf("write an enrichment: %w", err)
		}
	}
	return ref, nil
}

const registerSQL = `
WITH m AS (
  INSERT INTO tocsin.manifest (digest, spec, state)
  VALUES (@digest, '{}', 'indexed')
  ON CONFLICT (digest) DO UPDATE SET updated_at = now()
  RETURNING id, xmax <> 0 AS known
)
SELECT id, known FROM m`

const nameSQL = `
INSERT INTO tocsin.naming (manifest_id, names) VALUES (@manifest, @names) RETURNING id`

// register tells the database of a manifest, as the indexer does.
func (w *Setup) register(ctx context.Context, r *claircore.IndexReport) (matcher.Manifest, error) {
	m := matcher.Manifest{Digest: r.Hash.String(), Names: []string{"registry.example/app:1"}}
	if err := w.pool.QueryRow(ctx, registerSQL, pgx.NamedArgs{"digest": m.Digest}).Scan(&m.ID, &m.Reindexed); err != nil {
		return m, fmt.Errorf("register a manifest: %w", err)
	}
	if err := w.pool.QueryRow(ctx, nameSQL, pgx.NamedArgs{"manifest": m.ID, "names": m.Names}).Scan(&m.NamingID); err != nil {
		return m, fmt.Errorf("name a manifest: %w", err)
	}
	// A new state each time: an index that found the same as the one before
	// is announced too.
	m.IndexerState = fmt.Sprint("state ", m.NamingID)
	return m, nil
}

// recorder is the announcer of a setup: it keeps what is announced.
type recorder struct {
	mu        sync.Mutex
	indexed   []indexedEvent
	changes   []change
	completed []schemas.UpdateCompleted
}

// indexedEvent is one call of ManifestIndexed. The engine's barrier puts it
// before or after a change, and after says how many had come first.
type indexedEvent struct {
	schemas.IndexedEvent
	after int
}

// change is one call of ManifestsChanged.
type change struct {
	id     int64
	update schemas.Update
	rows   []affected
}

// affected is one row of the temporary table affected_manifest.
type affected struct {
	ManifestID              int32
	InventoryID, NamingID   int64
	Added, Removed, Revised int
	SeverityRank            int16
	Fixable                 bool
	Superseded              *bool
	Coverage                *string
}

func (r *recorder) take() (indexed []indexedEvent, changes []change, completed []schemas.UpdateCompleted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	indexed, changes, completed = r.indexed, r.changes, r.completed
	r.indexed, r.changes, r.completed = nil, nil, nil
	return indexed, changes, completed
}

// ManifestIndexed implements [matcher.Announcer].
func (r *recorder) ManifestIndexed(_ context.Context, _ pgx.Tx, ev schemas.IndexedEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.indexed = append(r.indexed, indexedEvent{ev, len(r.completed)})
	return nil
}

const affectedSQL = `
SELECT manifest_id, inventory_id, naming_id, added, removed, revised, severityrank, fixable,
  (attributes ->> 'superseded')::boolean, attributes ->> 'coverage'
FROM affected_manifest ORDER BY manifest_id`

// ManifestsChanged implements [matcher.Announcer].
func (r *recorder) ManifestsChanged(ctx context.Context, tx pgx.Tx, id int64, u schemas.Update) (int64, error) {
	rows, err := tx.Query(ctx, affectedSQL)
	if err != nil {
		return 0, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[affected])
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, change{id: id, update: u, rows: all})
	return int64(len(all)), nil
}

// UpdateCompleted implements [matcher.Announcer].
func (r *recorder) UpdateCompleted(_ context.Context, _ pgx.Tx, data schemas.UpdateCompleted) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.completed = append(r.completed, data)
	return nil
}
