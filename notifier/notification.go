package notifier

import (
	"context"
	"errors"
	"fmt"
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
SELECT id FROM tocsin.event WHERE id IN (@id, @twin) AND change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `'`

// ManifestChange says what became of one manifest: the worst that an update
// added, or the worst that it removed.
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
	after, half, err := n.notificationCursor(ctx, d, after)
	if err != nil {
		return nil, false, err
	}
	// The last event of the page before may have had a second half.
	if half != nil {
		if changes, err = n.manifestChanges(ctx, []*eventlog.Record{half}); err != nil {
			return nil, false, err
		}
		changes = slices.DeleteFunc(changes, func(c ManifestChange) bool { return c.ID == half.UUID })
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

// notificationCursor is the event after which a page goes on, and that event
// itself if only the first of its changes has been returned. An id that is no
// change of this notification is a place in the order like any other.
func (n *Notifier) notificationCursor(ctx context.Context, d *eventlog.Record, last uuid.UUID) (after uuid.UUID, half *eventlog.Record, err error) {
	if last == uuid.Nil {
		return uuid.Nil, nil, nil
	}
	err = n.Pool.QueryRow(ctx, eventOfNotification, pgx.NamedArgs{"id": last, "twin": twin(last), "change": d.Key.ChangeID}).Scan(&after)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return last, nil, nil
	case err != nil:
		return uuid.Nil, nil, fmt.Errorf("notifier: read notification: %w", err)
	case after != last:
		return after, nil, nil
	}
	list, err := n.Log.ByID(ctx, after)
	if err != nil || len(list) == 0 {
		return after, nil, err
	}
	return after, list[0], nil
}

// twin is the id of the change that says what was removed, beside the event's
// own for what was added; and the other way round.
func twin(id uuid.UUID) uuid.UUID {
	id[15] ^= 1
	return id
}

// manifestChanges are the up to two changes of each event, in order.
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
		if f := worstAdded(&datas[i]); f != nil {
			out = append(out, ManifestChange{ID: r.UUID, Manifest: r.Subject, Reason: "added", Worst: *f})
		}
		if removed := datas[i].Removed; len(removed) > 0 {
			out = append(out, ManifestChange{ID: twin(r.UUID), Manifest: r.Subject, Reason: "removed", Worst: removed[0]})
		}
	}
	return out, nil
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
