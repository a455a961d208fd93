package notifier

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// digestSize is how many manifests a digest lists itself.
const digestSize = 100

// digest sums events of a change. It is kept in pending_match between batches.
type digest struct {
	Total     int                        `json:"total"`
	Counts    schemas.DigestCounts       `json:"counts"`
	Manifests []*schemas.ChangedManifest `json:"manifests"` // shared among digests: not to be changed
	Rank      *int32                     `json:"rank,omitempty"`
	Fixable   bool                       `json:"fixable"`
	KEV       bool                       `json:"kev"`
	EPSS      *int32                     `json:"epss,omitempty"`
}

// add counts an event.
func (d *digest) add(e *eventlog.Record) {
	x := e.Extensions
	d.Total++
	d.Counts.Added += int64(deref(x.Added))
	d.Counts.Removed += int64(deref(x.Removed))
	d.Counts.Revised += int64(deref(x.Revised))
	d.Fixable = d.Fixable || deref(x.Fixable)
	d.KEV = d.KEV || deref(x.KEV)
	if x.SeverityRank != nil {
		d.Counts.BySeverity.Add(int(*x.SeverityRank), 1)
		if d.Rank == nil || *d.Rank < *x.SeverityRank {
			d.Rank = x.SeverityRank
		}
	}
	if x.EPSS != nil && (d.EPSS == nil || *d.EPSS < *x.EPSS) {
		d.EPSS = x.EPSS
	}
	if len(d.Manifests) < digestSize {
		d.Manifests = append(d.Manifests, e.Listed())
	}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// record makes the event of a digest. scope is nil for the one for everybody.
func (d *digest) record(ctx context.Context, w *eventlog.Writer, changeID int64, update schemas.Update, scope *eventlog.Scope) (*eventlog.Record, error) {
	x := ofUpdate(update)
	x.SeverityRank, x.Fixable, x.KEV, x.EPSS = d.Rank, &d.Fixable, &d.KEV, d.EPSS
	x.Added, x.Removed, x.Revised = clamp(d.Counts.Added), clamp(d.Counts.Removed), clamp(d.Counts.Revised)
	data := schemas.ManifestsChanged{
		Update: update, Total: d.Total, Counts: d.Counts, Truncated: d.Total > len(d.Manifests),
		Manifests: make([]schemas.ChangedManifest, len(d.Manifests)),
	}
	for i, m := range d.Manifests {
		data.Manifests[i] = *m
	}
	r, err := w.NewLinked(ctx, schemas.TypeManifestsChanged, "", x, func(link func(string) string) any {
		data.Links.All = link("manifests")
		return data
	})
	if err != nil {
		return nil, err
	}
	r.Scope, r.Key.ChangeID = scope, changeID
	return r, nil
}

// clamp is n as an attribute, which has 32 bits (CloudEvents 1.0, section 2.4).
func clamp(n int64) *int32 { return new(int32(min(n, 1<<31-1))) }

// writeDigests writes the digest of all the change's events, and one for each
// group that wants only some.
func (c *change) writeDigests(ctx context.Context, tx pgx.Tx) error {
	all, err := c.sum(ctx, tx)
	if err != nil {
		return err
	}
	if err := c.writeDigest(ctx, tx, all, everything); err != nil {
		return err
	}
	for _, group := range slices.Sorted(maps.Keys(c.digests)) {
		if err := c.writeDigest(ctx, tx, c.digests[group], group); err != nil {
			return err
		}
	}
	return nil
}

const sumChanged = `
SELECT count(*), COALESCE(sum(added), 0), COALESCE(sum(removed), 0), COALESCE(sum(revised), 0),
  COALESCE(max(severityrank), -1)::integer,
  COALESCE(bool_or(fixable), FALSE), COALESCE(bool_or(kev), FALSE), max(epss)::integer,
  count(*) FILTER (WHERE severityrank = 0 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 1 AND added + revised > 0),
  count(*) FILTER (WHERE severityrank = 2 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 3 AND added + revised > 0),
  count(*) FILTER (WHERE severityrank = 4 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 5 AND added + revised > 0)
FROM affected_manifest`

// sum is the digest of all the change's events, in SQL.
func (c *change) sum(ctx context.Context, tx pgx.Tx) (*digest, error) {
	d := &digest{}
	var rank int32
	b := &d.Counts.BySeverity
	err := tx.QueryRow(ctx, sumChanged).Scan(&d.Total, &d.Counts.Added, &d.Counts.Removed, &d.Counts.Revised, &rank, &d.Fixable, &d.KEV, &d.EPSS,
		&b.Unknown, &b.Negligible, &b.Low, &b.Medium, &b.High, &b.Critical)
	if err != nil {
		return nil, fmt.Errorf("notifier: sum change %d up: %w", c.ID, err)
	}
	if rank >= 0 {
		d.Rank = &rank
	}
	first, err := c.Read(ctx, tx, c.After, digestSize)
	if err != nil {
		return nil, err
	}
	for _, e := range first {
		d.Manifests = append(d.Manifests, e.Listed())
	}
	return d, nil
}

func (c *change) writeDigest(ctx context.Context, tx pgx.Tx, d *digest, group string) error {
	subs := c.view.index.groups[group]
	var scope *eventlog.Scope
	if group != everything {
		scope = subs[0].scope()
	}
	r, err := d.record(ctx, c.Announcer.Events, c.ID, c.update, scope)
	if err != nil {
		return err
	}
	if err := r.Insert(ctx, tx); err != nil {
		return err
	}
	c.metrics.events.WithLabelValues(r.Type).Inc()
	owed := make([]schemas.NewDelivery, 0, len(subs))
	for _, s := range subs {
		owed = append(owed, schemas.NewDelivery{EventID: r.UUID, SubscriptionID: s.id})
	}
	if err := c.enqueue(ctx, tx, owed); err != nil || scope != nil {
		return err
	}
	// Subscriptions that ask for its type by name get it beside the events.
	return c.deliver(ctx, tx, c.view, r, audience{})
}

// scope is whom a digest of the subscriber's group is made for.
func (s *subscriber) scope() *eventlog.Scope {
	scope := &eventlog.Scope{Filters: s.spec.Filters}
	if s.spec.Config.Mode == schemas.ModeClair || s.set.NeedsData() {
		scope.Subscription = s.id.String()
	}
	return scope
}
