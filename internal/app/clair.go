package app

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/clairapi"
	"tocsin.dev/tocsin/matcher"
)

// clairIndexer answers clairapi.Indexer: an index request is a job like any
// other, and its caller waits for it.
type clairIndexer struct {
	ix     *indexer.Indexer
	engine *matcher.Engine
}

func (c clairIndexer) Index(ctx context.Context, m *claircore.Manifest) (*claircore.IndexReport, error) {
	req := indexer.Request{Manifest: &indexer.Manifest{Digest: m.Hash.String()}}
	for _, l := range m.Layers {
		req.Manifest.Layers = append(req.Manifest.Layers, indexer.Layer{Digest: l.Hash.String(), URI: l.URI, Headers: l.Headers})
	}
	if _, err := c.ix.Submit(ctx, req); err != nil {
		if len(indexer.Invalid(err)) > 0 {
			return nil, fmt.Errorf("%w: %w", clairapi.ErrBadManifest, err)
		}
		return nil, err
	}
	image, err := c.ix.Wait(ctx, m.Hash.String())
	if err != nil {
		return nil, err
	}
	if image.State == indexer.StateFailed {
		return nil, errors.New(image.Reason)
	}
	report, ok, err := c.ix.IndexReport(ctx, m.Hash)
	if err == nil && !ok {
		err = errors.New("the manifest was deleted while it was indexed")
	}
	return report, err
}

func (c clairIndexer) State(context.Context) (string, error) { return c.ix.State(), nil }

func (c clairIndexer) IndexReport(ctx context.Context, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	return c.ix.IndexReport(ctx, d)
}

func (c clairIndexer) DeleteManifests(ctx context.Context, ds ...claircore.Digest) ([]claircore.Digest, error) {
	names := make([]string, len(ds))
	for i, d := range ds {
		names[i] = d.String()
	}
	gone, err := c.ix.Delete(ctx, names...)
	if err != nil {
		return nil, err
	}
	out := make([]claircore.Digest, 0, len(gone))
	for _, name := range gone {
		d, err := claircore.ParseDigest(name)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// AffectedManifests answers from the same engine as everything else, so that
// it agrees with the reports.
func (c clairIndexer) AffectedManifests(ctx context.Context, vulns []claircore.Vulnerability) (*claircore.AffectedManifests, error) {
	out := claircore.NewAffectedManifests()
	for i := range vulns {
		v := &vulns[i]
		var digests []claircore.Digest
		for cursor := ""; ; {
			found, next, err := c.engine.Affected(ctx, v.Name, matcher.Page{Cursor: cursor, Limit: 500})
			if err != nil {
				return nil, err
			}
			for _, a := range found {
				if !names(v, a) {
					continue
				}
				d, err := claircore.ParseDigest(a.Manifest.Digest)
				if err != nil {
					return nil, err
				}
				digests = append(digests, d)
			}
			if next == "" {
				break
			}
			cursor = next
		}
		out.Add(v, digests...)
	}
	out.Sort()
	return &out, nil
}

// names reports whether one of the findings is the given vulnerability: its
// updater's, in its package or one built from it.
func names(v *claircore.Vulnerability, a matcher.Affected) bool {
	for _, f := range a.Findings {
		if f.ID != v.Name || v.Updater != "" && f.Updater != v.Updater {
			continue
		}
		if v.Package == nil || v.Package.Name == "" || v.Package.Name == f.Package.Name ||
			f.Package.Source != nil && f.Package.Source.Name == v.Package.Name {
			return true
		}
	}
	return false
}

// clairMatcher answers clairapi.Matcher.
type clairMatcher struct {
	pool   *pgxpool.Pool
	store  datastore.MatcherStore
	engine *matcher.Engine
}

func (c clairMatcher) Scan(ctx context.Context, ir *claircore.IndexReport) (*claircore.VulnerabilityReport, error) {
	r, err := c.engine.Report(ctx, ir.Hash)
	if err != nil {
		return nil, err
	}
	return r.VulnerabilityReport, nil
}

func (c clairMatcher) Initialized(ctx context.Context) (bool, error) { return c.store.Initialized(ctx) }

func (c clairMatcher) UpdateOperations(ctx context.Context, kind driver.UpdateKind, updaters ...string) (map[string][]driver.UpdateOperation, error) {
	return c.store.GetUpdateOperations(ctx, kind, updaters...)
}

func (c clairMatcher) LatestUpdateOperations(ctx context.Context, kind driver.UpdateKind) (map[string][]driver.UpdateOperation, error) {
	return c.store.GetLatestUpdateRefs(ctx, kind)
}

func (c clairMatcher) LatestUpdateOperation(ctx context.Context, kind driver.UpdateKind) (uuid.UUID, error) {
	return c.store.GetLatestUpdateRef(ctx, kind)
}

func (c clairMatcher) UpdateDiff(ctx context.Context, prev, cur uuid.UUID) (*driver.UpdateDiff, error) {
	return c.store.GetUpdateDiff(ctx, prev, cur)
}

const selectNeeded = `
SELECT EXISTS (
  SELECT FROM public.update_operation o
  LEFT JOIN tocsin.cursor v ON v.updater = o.updater AND o.kind = 'vulnerability'
  LEFT JOIN tocsin.enrichment_cursor e ON e.updater = o.updater AND o.kind = 'enrichment'
  WHERE o.ref = ANY(@refs::uuid[]) AND o.id >= coalesce(v.op_id, e.op_id, 0)
)`

// DeleteUpdateOperations refuses operations that a cursor still needs: the
// difference to the next update is worked out from them.
func (c clairMatcher) DeleteUpdateOperations(ctx context.Context, refs ...uuid.UUID) (int64, error) {
	ids := make([]string, len(refs))
	for i, r := range refs {
		ids[i] = r.String()
	}
	var needed bool
	if err := c.pool.QueryRow(ctx, selectNeeded, pgx.NamedArgs{"refs": ids}).Scan(&needed); err != nil {
		return 0, err
	}
	if needed {
		return 0, fmt.Errorf("%w: the difference to the next update is worked out from it", clairapi.ErrInUse)
	}
	return c.store.DeleteUpdateOperations(ctx, refs...)
}
