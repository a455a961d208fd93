package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/secrets"
)

// States of a manifest.
const (
	StatePending = "pending" // to be indexed for the first time
	StateIndexed = "indexed"
	StateFailed  = "failed" // never indexed, given up
	StateDeleted = "deleted"
	StateRetired = "retired" // no name stood for it for long; kept, without events
)

// ErrNotFound is returned for a manifest Tocsin doesn't know, or that was
// deleted.
var ErrNotFound = problem.New(problem.NotFound, "no such manifest")

// ErrOtherLayers is returned for a manifest that is known, and indexed, with
// other layers: one of the two has the wrong digest.
var ErrOtherLayers = problem.New(problem.Conflict, "the manifest is known with other layers")

// store keeps manifests and what they are called.
type store struct {
	pool *pgxpool.Pool
}

// row is a manifest of the table.
type row struct {
	ID           int32
	Digest       string
	Reference    string
	Spec         spec
	Sealed       secrets.Sealed
	NamingID     int64
	Names        []string
	Labels       map[string]string
	HasInventory bool
	State        string
	IndexerState string
	Degraded     bool
	// Replaced says that claircore still has an index of other layers.
	Replaced bool
	// Returned says that a name stands for it again, which is to be announced.
	Returned bool
	// Stale says that an older scanner state indexed it than the caller's.
	Stale bool
}

const (
	claimManifest = `
INSERT INTO tocsin.manifest (digest, reference, config, spec, sealed_key, sealed)
VALUES (@digest, @reference, @config, @spec, @sealed_key, @sealed)
ON CONFLICT (digest) DO UPDATE SET config = CASE WHEN EXCLUDED.config <> '' AND (@verified OR manifest.config = '') THEN EXCLUDED.config ELSE manifest.config END
RETURNING id, state, spec, coalesce(naming_id, 0), indexer_state = @state AND NOT degraded AND NOT replaced, verified, twinned`

	refreshManifest = `
UPDATE tocsin.manifest
SET spec = @spec, sealed_key = @sealed_key, sealed = @sealed,
    reference = CASE WHEN @reference = '' THEN reference ELSE @reference END,
    state = CASE WHEN state IN ('failed', 'deleted', 'retired') THEN 'pending' ELSE state END,
    reason = '', purged = false, attempted_state = '', verified = verified OR @verified, updated_at = now(),
    named = named AND state NOT IN ('deleted', 'retired'),
    superseded_at = CASE WHEN state IN ('deleted', 'retired') THEN NULL ELSE superseded_at END
WHERE id = @id`

	isSuperseded = `SELECT EXISTS (SELECT FROM tocsin.superseded WHERE manifest_id = @id)`

	// An image that a name stands for again is announced anew: what came up
	// meanwhile was told of a superseded one.
	noteReturned = `
UPDATE tocsin.manifest SET returned = true, updated_at = now() WHERE id = @id AND NOT EXISTS (SELECT FROM tocsin.superseded WHERE manifest_id = @id)`

	verifyManifest = `
UPDATE tocsin.manifest SET verified = true, reference = @reference WHERE id = @id AND NOT verified`

	// The inventory of before stays in use until there is one of these layers.
	replaceManifest = `
UPDATE tocsin.manifest
SET replaced = true, degraded = false, indexer_state = '', packages = 0, warnings = '{}'
WHERE id = @id`

	selectNaming = `SELECT names, labels, also FROM tocsin.naming WHERE id = @id`

	insertNaming = `
WITH n AS (INSERT INTO tocsin.naming (manifest_id, names, labels, also) VALUES (@manifest, @names, @labels, @also) RETURNING id)
UPDATE tocsin.manifest SET naming_id = n.id, updated_at = now() FROM n WHERE tocsin.manifest.id = @manifest`
)

// known is what was known of a manifest before it was recorded again.
type known struct {
	State   string // "" if it is new
	Current bool   // indexed by the present scanner state, with all it takes
	id      int32
	twinned bool // there may be other compressions of the image
}

// claims is what a request says of a manifest.
type claims struct {
	names  []string
	labels map[string]string
	// asked is the name that a registry was asked for; "" if none was.
	asked string
}

// record writes a manifest down, or what is new about a known one: names and
// labels are merged with those it has. What a registry answered with replaces
// what somebody claimed the digest to be; nothing else replaces layers that a
// registry vouched for, or that are indexed.
func (s *store) record(ctx context.Context, m *Manifest, sp spec, sealed secrets.Sealed, c claims, state string) (before known, err error) {
	verified := m.Reference != ""
	args := pgx.NamedArgs{
		"digest": m.Digest, "reference": m.Reference, "config": m.Config, "spec": sp, "sealed_key": sealed.KeyID, "sealed": sealed.Box, "state": state,
		"verified": verified,
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var id int32
		var old spec
		var naming int64
		var vouched bool
		if err := tx.QueryRow(ctx, claimManifest, args).Scan(&id, &before.State, &old, &naming, &before.Current, &vouched, &before.twinned); err != nil {
			return err
		}
		args["id"], before.id = id, id
		if naming == 0 { // every recorded manifest has one
			before = known{}
			if err := s.name(ctx, tx, id, c.names, c.labels, nil); err != nil {
				return err
			}
			return s.means(ctx, tx, id, c)
		}
		if !sameLayers(old, sp) {
			if vouched || !verified && before.State == StateIndexed {
				return ErrOtherLayers
			}
			before.Current = false
			if _, err := tx.Exec(ctx, replaceManifest, args); err != nil {
				return err
			}
		}
		before.Current = before.Current && before.State == StateIndexed
		switch {
		case !before.Current:
			if _, err := tx.Exec(ctx, refreshManifest, args); err != nil {
				return err
			}
		case verified:
			if _, err := tx.Exec(ctx, verifyManifest, args); err != nil {
				return err
			}
		}
		if err := s.merge(ctx, tx, id, naming, c.names, c.labels); err != nil {
			return err
		}
		var superseded bool
		if err := tx.QueryRow(ctx, isSuperseded, args).Scan(&superseded); err != nil {
			return err
		}
		if err := s.means(ctx, tx, id, c); err != nil || !superseded {
			return err
		}
		tag, err := tx.Exec(ctx, noteReturned, args)
		if tag.RowsAffected() > 0 {
			before.Current = false
		}
		return err
	})
	if err != nil {
		return known{}, fmt.Errorf("record manifest %s: %w", m.Digest, err)
	}
	return before, nil
}

func sameLayers(a, b spec) bool {
	return slices.EqualFunc(a.Layers, b.Layers, func(x, y specLayer) bool { return x.Hash == y.Hash })
}

// merge adds names and labels to those of a naming, as a new version if that
// changes anything.
func (s *store) merge(ctx context.Context, tx pgx.Tx, manifest int32, naming int64, names []string, labels map[string]string) error {
	var oldNames, also []string
	var oldLabels map[string]string
	if err := tx.QueryRow(ctx, selectNaming, pgx.NamedArgs{"id": naming}).Scan(&oldNames, &oldLabels, &also); err != nil {
		return err
	}
	merged := slices.Clone(oldNames)
	for _, n := range names {
		if !slices.Contains(merged, n) {
			merged = append(merged, n)
		}
	}
	// Of too many names the oldest go.
	merged = merged[max(0, len(merged)-maxNames):]
	all := maps.Clone(oldLabels)
	if all == nil {
		all = map[string]string{}
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if _, ok := all[k]; ok || len(all) < maxLabels {
			all[k] = labels[k]
		}
	}
	if slices.Equal(merged, oldNames) && maps.Equal(all, oldLabels) {
		return nil
	}
	return s.name(ctx, tx, manifest, merged, all, also)
}

func (s *store) name(ctx context.Context, tx pgx.Tx, manifest int32, names []string, labels map[string]string, also []string) error {
	if also == nil {
		also = []string{}
	}
	if names == nil {
		names = []string{}
	}
	if labels == nil {
		labels = map[string]string{}
	}
	_, err := tx.Exec(ctx, insertNaming, pgx.NamedArgs{"manifest": manifest, "names": names, "labels": labels, "also": also})
	return err
}

const loadManifest = `
SELECT m.id, m.digest, m.reference, m.spec, m.sealed_key, m.sealed, n.id, n.names, n.labels, m.inventory_id IS NOT NULL,
       m.state, m.indexer_state, m.degraded, m.replaced, m.returned,
       m.indexer_state <> @state AND coalesce(was.generation, 0) < coalesce(now.generation, 0)
FROM tocsin.manifest m
JOIN tocsin.naming n ON n.id = m.naming_id
LEFT JOIN tocsin.indexer_state was ON was.state = m.indexer_state
LEFT JOIN tocsin.indexer_state now ON now.state = @state
WHERE m.digest = @digest`

// load returns a manifest as an indexer of the scanner state sees it, deleted
// ones included, or [ErrNotFound].
func (s *store) load(ctx context.Context, digest, state string) (r row, err error) {
	err = s.pool.QueryRow(ctx, loadManifest, pgx.NamedArgs{"digest": digest, "state": state}).Scan(
		&r.ID, &r.Digest, &r.Reference, &r.Spec, &r.Sealed.KeyID, &r.Sealed.Box, &r.NamingID, &r.Names, &r.Labels, &r.HasInventory,
		&r.State, &r.IndexerState, &r.Degraded, &r.Replaced, &r.Returned, &r.Stale)
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, ErrNotFound
	}
	if err != nil {
		return row{}, fmt.Errorf("load manifest %s: %w", digest, err)
	}
	return r, nil
}

const (
	describeManifest = `
UPDATE tocsin.manifest SET packages = @packages, warnings = @warnings, degraded = @degraded
WHERE id = @id AND state <> 'deleted'`

	finishManifest = `
UPDATE tocsin.manifest SET attempted_state = '', replaced = false, sealed_key = '', sealed = NULL
WHERE id = @id AND state = 'indexed' AND spec = @spec::jsonb`

	otherSpec = `SELECT EXISTS (SELECT FROM tocsin.manifest WHERE id = @id AND state = 'indexed' AND spec <> @spec::jsonb)`
)

// errReplaced is the error of an attempt during which the manifest was published
// with other layers, or other places of them: another attempt indexes those.
var errReplaced = errors.New("the manifest was published anew while it was being indexed")

// describe notes what a report says, before the inventory's transaction makes
// the manifest indexed, so that nobody sees it indexed without.
func (s *store) describe(ctx context.Context, id int32, packages int, warnings []string, degraded bool) error {
	if warnings == nil {
		warnings = []string{}
	}
	_, err := s.pool.Exec(ctx, describeManifest, pgx.NamedArgs{"id": id, "packages": packages, "warnings": warnings, "degraded": degraded})
	if err != nil {
		return fmt.Errorf("describe manifest: %w", err)
	}
	return nil
}

// finish forgets what was needed to index the manifest, if that is still what
// the attempt knew of it; else the error is errReplaced.
func (s *store) finish(ctx context.Context, id int32, sp spec) error {
	args := pgx.NamedArgs{"id": id, "spec": sp}
	tag, err := s.pool.Exec(ctx, finishManifest, args)
	if err == nil && tag.RowsAffected() == 0 {
		var other bool
		if err = s.pool.QueryRow(ctx, otherSpec, args).Scan(&other); other {
			return errReplaced
		}
	}
	if err != nil {
		return fmt.Errorf("finish manifest: %w", err)
	}
	return nil
}

const failManifest = `
UPDATE tocsin.manifest m
SET state = CASE WHEN m.state = 'pending' THEN 'failed' ELSE m.state END,
    reason = @reason, attempted_state = @state, updated_at = now()
FROM tocsin.naming n
WHERE m.digest = @digest AND m.state <> 'deleted' AND n.id = m.naming_id
RETURNING n.names, n.labels`

// fail notes that indexing was given up. A manifest that has been indexed
// before keeps its state and its inventory. ok is false for one that is gone.
func (s *store) fail(ctx context.Context, tx pgx.Tx, digest, state, reason string) (names []string, labels map[string]string, ok bool, err error) {
	err = tx.QueryRow(ctx, failManifest, pgx.NamedArgs{"digest": digest, "state": state, "reason": reason}).Scan(&names, &labels)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, false, nil
	}
	return names, labels, err == nil, err
}

const (
	registerState = `INSERT INTO tocsin.indexer_state (state) VALUES (@state) ON CONFLICT (state) DO NOTHING`

	staleManifests = `
SELECT m.digest
FROM tocsin.manifest m
JOIN tocsin.indexer_state now ON now.state = @state
LEFT JOIN tocsin.indexer_state was ON was.state = m.indexer_state
WHERE m.state = 'indexed' AND m.indexer_state <> @state AND m.attempted_state <> @state
  AND coalesce(was.generation, 0) < now.generation
  AND m.spec -> 'layers' -> 0 ->> 'uri' <> '' -- else nobody knows where the layers are
ORDER BY m.id LIMIT @limit`

	degradedManifests = `SELECT digest FROM tocsin.manifest WHERE degraded AND state = 'indexed' ORDER BY id LIMIT @limit`

	pendingManifests = `
SELECT digest FROM tocsin.manifest
WHERE (state = 'pending' OR returned AND state = 'indexed') AND updated_at < now() - @age::interval ORDER BY updated_at LIMIT @limit`

	touchPending = `UPDATE tocsin.manifest SET updated_at = now() WHERE digest = ANY(@digests) AND (state = 'pending' OR returned)`
)

func (s *store) register(ctx context.Context, state string) error {
	if _, err := s.pool.Exec(ctx, registerState, pgx.NamedArgs{"state": state}); err != nil {
		return fmt.Errorf("register scanner state: %w", err)
	}
	return nil
}

// stale lists manifests that an older scanner state indexed.
func (s *store) stale(ctx context.Context, state string, limit int) ([]string, error) {
	return s.digests(ctx, staleManifests, pgx.NamedArgs{"state": state, "limit": limit})
}

// degraded lists manifests for whose index a scanner lacked outside data.
func (s *store) degraded(ctx context.Context, limit int) ([]string, error) {
	return s.digests(ctx, degradedManifests, pgx.NamedArgs{"limit": limit})
}

// pending lists manifests that have waited for longer than age, and counts
// their wait anew.
func (s *store) pending(ctx context.Context, age time.Duration, limit int) ([]string, error) {
	digests, err := s.digests(ctx, pendingManifests, pgx.NamedArgs{"age": age, "limit": limit})
	if err != nil || len(digests) == 0 {
		return nil, err
	}
	_, err = s.pool.Exec(ctx, touchPending, pgx.NamedArgs{"digests": digests})
	return digests, err
}

func (s *store) digests(ctx context.Context, sql string, args pgx.NamedArgs) ([]string, error) {
	rows, err := s.pool.Query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
