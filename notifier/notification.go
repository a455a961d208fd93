package notifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

const notificationDeleted = `SELECT EXISTS (SELECT FROM tocsin.notification_deleted WHERE event_id = @id)`

const deleteNotification = `INSERT INTO tocsin.notification_deleted (event_id) VALUES (@id) ON CONFLICT DO NOTHING`

const eventOfNotification = `
SELECT id FROM tocsin.event
WHERE id BETWEEN @first AND @last AND change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `'
ORDER BY id LIMIT 1`

// ManifestChange says what became of one manifest: the worst that an update
// added, or the worst that it removed; or, with Options.EveryFinding, one of its
// findings.
type ManifestChange struct {
	ID       uuid.UUID
	Manifest string // digest
	Reason   string // added or removed
	Worst    schemas.Finding
}

// Notification is up to limit changes of manifests that a digest sums up, in
// the order of their events, and whether there are more. id is the digest's,
// which a subscription of mode clair was sent; after is the last change of the
// page before, uuid.Nil for the first page. A notification that is unknown, or
// was deleted, has no changes, as with Clair.
func (n *Notifier) Notification(ctx context.Context, id, after uuid.UUID, limit int) (changes []ManifestChange, more bool, err error) {
	d, err := n.digestRecord(ctx, id)
	if errors.Is(err, problem.NotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var deleted bool
	if err := n.Pool.QueryRow(ctx, notificationDeleted, pgx.NamedArgs{"id": id}).Scan(&deleted); err != nil {
		return nil, false, fmt.Errorf("notifier: read notification: %w", err)
	}
	if deleted {
		return nil, false, nil
	}
	after, rest, err := n.notificationCursor(ctx, d, after)
	if err != nil {
		return nil, false, err
	}
	// The last event of the page before may have had more.
	if rest != nil {
		if changes, err = n.manifestChanges(ctx, []*eventlog.Record{rest.event}); err != nil {
			return nil, false, err
		}
		changes = slices.DeleteFunc(changes, func(c ManifestChange) bool { return nth(rest.event.UUID, c.ID) <= rest.returned })
		if len(changes) > limit {
			return changes[:limit], true, nil
		}
	}
	batch := make([]*eventlog.Record, 0, eventlog.RenderBatch)
	render := func() error {
		rendered, err := n.manifestChanges(ctx, batch)
		changes, batch = append(changes, rendered...), batch[:0]
		return err
	}
	for r, err := range n.digested(ctx, d, after, limit+1) {
		if err != nil {
			return nil, false, err
		}
		if batch = append(batch, r); len(batch) < eventlog.RenderBatch {
			continue
		}
		if err := render(); err != nil {
			return nil, false, err
		}
		if len(changes) > limit {
			break
		}
	}
	if err := render(); err != nil {
		return nil, false, err
	}
	if len(changes) > limit {
		return changes[:limit], true, nil
	}
	return changes, false, nil
}

// partly is an event of which some changes have been returned.
type partly struct {
	event    *eventlog.Record
	returned uint32 // the number of the last of them
}

// notificationCursor is the event after which a page goes on, and that event
// itself, since it may have more changes than those up to last. An id that is no
// change of this notification is a place in the order like any other.
func (n *Notifier) notificationCursor(ctx context.Context, d *eventlog.Record, last uuid.UUID) (after uuid.UUID, rest *partly, err error) {
	if last == uuid.Nil {
		return uuid.Nil, nil, nil
	}
	from, to := last, last
	binary.BigEndian.PutUint32(from[12:], 0)
	binary.BigEndian.PutUint32(to[12:], math.MaxUint32)
	err = n.Pool.QueryRow(ctx, eventOfNotification, pgx.NamedArgs{"first": from, "last": to, "change": d.Key.ChangeID}).Scan(&after)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return last, nil, nil
	case err != nil:
		return uuid.Nil, nil, fmt.Errorf("notifier: read notification: %w", err)
	}
	list, err := n.Log.ByID(ctx, after)
	if err != nil || len(list) == 0 {
		return after, nil, err
	}
	return after, &partly{list[0], nth(after, last)}, nil
}

// numbered is the id of an event's change of that number; 0 is the event's own.
// Ids of events differ in their first 96 bits.
func numbered(event uuid.UUID, n uint32) uuid.UUID {
	binary.BigEndian.PutUint32(event[12:], binary.BigEndian.Uint32(event[12:])^n)
	return event
}

// nth is the number of an event's change.
func nth(event, change uuid.UUID) uint32 {
	return binary.BigEndian.Uint32(event[12:]) ^ binary.BigEndian.Uint32(change[12:])
}

// manifestChanges are the changes of each event, in order: up to two, or all.
func (n *Notifier) manifestChanges(ctx context.Context, events []*eventlog.Record) ([]ManifestChange, error) {
	if len(events) == 0 {
		return nil, nil
	}
	datas, err := n.Log.Whole(ctx, events...)
	if err != nil {
		return nil, err
	}
	var out []ManifestChange
	for i, r := range events {
		if n.EveryFinding {
			out = append(out, everyChange(r, &datas[i])...)
			continue
		}
		if f := worstAdded(&datas[i]); f != nil {
			out = append(out, ManifestChange{ID: r.UUID, Manifest: r.Subject, Reason: "added", Worst: *f})
		}
		if removed := datas[i].Removed; len(removed) > 0 {
			out = append(out, ManifestChange{ID: numbered(r.UUID, 1), Manifest: r.Subject, Reason: "removed", Worst: removed[0]})
		}
	}
	return out, nil
}

func everyChange(r *eventlog.Record, data *schemas.VulnerabilitiesChanged) []ManifestChange {
	var out []ManifestChange
	add := func(f *schemas.Finding, reason string) {
		out = append(out, ManifestChange{ID: numbered(r.UUID, uint32(len(out))), Manifest: r.Subject, Reason: reason, Worst: *f})
	}
	for i := range data.Added {
		add(&data.Added[i], "added")
	}
	for i := range data.Revised {
		add(&data.Revised[i].Finding, "added")
	}
	for i := range data.Removed {
		add(&data.Removed[i], "removed")
	}
	return out
}

// worstAdded is the worst finding that a change added, nil if it added none.
// Clair has no revised findings: to its clients they are new.
func worstAdded(data *schemas.VulnerabilitiesChanged) *schemas.Finding {
	var worst *schemas.Finding
	if len(data.Added) > 0 {
		worst = &data.Added[0]
	}
	if len(data.Revised) > 0 {
		f := &data.Revised[0].Finding
		if worst == nil || schemas.SeverityRank(f.NormalizedSeverity) > schemas.SeverityRank(worst.NormalizedSeverity) {
			worst = f
		}
	}
	return worst
}

// DeleteNotification empties a notification for good. One that there is not, or
// that was made for another owner's subscription or for everybody's, is
// problem.NotFound; an empty owner may delete all. One that was deleted before
// is deleted.
func (n *Notifier) DeleteNotification(ctx context.Context, owner string, id uuid.UUID) error {
	d, err := n.digestRecord(ctx, id)
	if errors.Is(err, problem.NotFound) && owner == "" {
		if ok, err := n.deleteClair(ctx, id); ok || err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if owner != "" {
		own, err := n.Subscriptions.OwnedBy(ctx, owner)
		if err != nil {
			return err
		}
		if d.Scope == nil || !slices.ContainsFunc(own, func(id uuid.UUID) bool { return id.String() == d.Scope.Subscription }) {
			return problem.New(problem.NotFound, "digest %s: not found", id)
		}
	}
	if _, err := n.Pool.Exec(ctx, deleteNotification, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("notifier: delete notification: %w", err)
	}
	return nil
}
