package notifier

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// ManifestIndexed announces in tx that a manifest has been indexed.
func (l *Log) ManifestIndexed(ctx context.Context, tx pgx.Tx, ev schemas.IndexedEvent) error {
	x := ev.Extensions
	if names := ev.Data.Manifest.Names; x.Image == nil && len(names) > 0 {
		x.Image = &names[0]
	}
	ev.Data.Manifest = filled(ev.Data.Manifest)
	r, err := l.newRecord(ctx, schemas.TypeManifestIndexed, ev.Data.Manifest.Digest, x, ev.Data)
	if err != nil {
		return err
	}
	r.key = schemas.ChangeKey{ManifestID: ev.ManifestID, InventoryID: ev.InventoryID, NamingID: ev.NamingID}
	return l.emit(ctx, tx, r, uuid.Nil)
}

// ManifestIndexFailed announces in tx that indexing a manifest was given up.
func (l *Log) ManifestIndexFailed(ctx context.Context, tx pgx.Tx, data schemas.ManifestIndexFailed) error {
	data.Manifest = filled(data.Manifest)
	var x schemas.Extensions
	if len(data.Manifest.Names) > 0 {
		x.Image = &data.Manifest.Names[0]
	}
	return l.announce(ctx, tx, schemas.TypeManifestIndexFailed, data.Manifest.Digest, x, data)
}

// UpdateCompleted announces in tx that an update has been worked through.
func (l *Log) UpdateCompleted(ctx context.Context, tx pgx.Tx, data schemas.UpdateCompleted) error {
	return l.announce(ctx, tx, schemas.TypeUpdateCompleted, "", ofUpdate(data.Update), data)
}

// UpdateFailed announces in tx that a feed could not be updated.
func (l *Log) UpdateFailed(ctx context.Context, tx pgx.Tx, data schemas.UpdateFailed) error {
	var x schemas.Extensions
	if data.Updater != "" {
		x.Updater = &data.Updater
	}
	return l.announce(ctx, tx, schemas.TypeUpdateFailed, "", x, data)
}

// JobRejected announces in tx that a message could not be understood.
func (l *Log) JobRejected(ctx context.Context, tx pgx.Tx, data schemas.JobRejected) error {
	if len(data.Payload) > 1024 {
		data.Payload = data.Payload[:1024]
	}
	return l.announce(ctx, tx, schemas.TypeJobRejected, "", schemas.Extensions{}, data)
}

// SubscriptionFailing announces in tx that a subscription's breaker opened, to
// all others.
func (l *Log) SubscriptionFailing(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	return l.announceState(ctx, tx, schemas.TypeSubscriptionFailing, s)
}

// SubscriptionRecovered announces in tx that a subscription's breaker closed,
// to all others.
func (l *Log) SubscriptionRecovered(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	return l.announceState(ctx, tx, schemas.TypeSubscriptionRecovered, s)
}

const disableSubscription = `
UPDATE tocsin.subscription SET state = 'disabled', reason = @reason, version = version + 1
WHERE id = @id AND state <> 'disabled' AND deleted_at IS NULL`

// SubscriptionDisabled disables a subscription in tx and announces it to all
// others. One that is disabled or deleted already is left alone, and nothing
// is announced.
func (l *Log) SubscriptionDisabled(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	id, err := uuid.Parse(s.Subscription)
	if err != nil {
		return fmt.Errorf("notifier: disable subscription %q: %w", s.Subscription, err)
	}
	tag, err := tx.Exec(ctx, disableSubscription, pgx.NamedArgs{"id": id, "reason": s.Reason})
	if err != nil {
		return fmt.Errorf("notifier: disable subscription: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return l.announceState(ctx, tx, schemas.TypeSubscriptionDisabled, s)
}

func (l *Log) announceState(ctx context.Context, tx pgx.Tx, typ string, s schemas.SubscriptionState) error {
	id, err := uuid.Parse(s.Subscription)
	if err != nil {
		return fmt.Errorf("notifier: subscription %q: %w", s.Subscription, err)
	}
	// A sink's path may be a secret, and others read this.
	if u, err := url.Parse(s.Sink); err == nil {
		host := u.Scheme + "://" + u.Host
		s.Reason = strings.ReplaceAll(s.Reason, s.Sink, host)
		s.Sink = host
	}
	r, err := l.newRecord(ctx, typ, "", schemas.Extensions{}, s)
	if err != nil {
		return err
	}
	return l.emit(ctx, tx, r, id)
}

func (l *Log) announce(ctx context.Context, tx pgx.Tx, typ, subject string, x schemas.Extensions, data any) error {
	r, err := l.newRecord(ctx, typ, subject, x, data)
	if err != nil {
		return err
	}
	return l.emit(ctx, tx, r, uuid.Nil)
}

// emit writes one event with data and what it is owed to, except the
// subscription except.
func (l *Log) emit(ctx context.Context, tx pgx.Tx, r *record, except uuid.UUID) error {
	defer l.metrics.since(time.Now())
	v, err := l.current(ctx, tx)
	if err != nil {
		return err
	}
	if err := r.insert(ctx, tx); err != nil {
		return err
	}
	l.metrics.events.WithLabelValues(r.Type).Inc()
	return l.owe(ctx, tx, v, r, except)
}

// owe enqueues an event that has been written to whoever wants it by its
// attributes. Who has to see the data is left for later.
func (l *Log) owe(ctx context.Context, tx pgx.Tx, v *view, r *record, except uuid.UUID) error {
	var owed []schemas.Owed
	var later []uuid.UUID
	for s := range v.matching(ctx, &r.Event) {
		switch {
		case s.id == except:
		case s.set.NeedsData():
			later = append(later, s.id)
		default:
			owed = append(owed, schemas.Owed{EventID: r.id, SubscriptionID: s.id})
		}
	}
	if err := r.leaveForLater(ctx, tx, later); err != nil {
		return err
	}
	return l.enqueue(ctx, tx, owed)
}

func (l *Log) enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.Owed) error {
	if len(owed) == 0 {
		return nil
	}
	if l.Enqueuer == nil {
		return fmt.Errorf("notifier: %d deliveries and no queue for them", len(owed))
	}
	if err := l.Enqueuer.Enqueue(ctx, tx, owed); err != nil {
		return fmt.Errorf("notifier: enqueue %d deliveries: %w", len(owed), err)
	}
	l.metrics.deliveries.Add(float64(len(owed)))
	return nil
}

// ofUpdate is the attributes that every event of an update has.
func ofUpdate(u schemas.Update) schemas.Extensions {
	return schemas.Extensions{Updater: &u.Updater, FirstLoad: &u.FirstLoad}
}

// filled makes empty lists of absent ones, as the schemas ask.
func filled(m schemas.Manifest) schemas.Manifest {
	if m.Names == nil {
		m.Names = []string{}
	}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	return m
}
