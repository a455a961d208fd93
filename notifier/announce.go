package notifier

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// ManifestIndexed announces in tx that a manifest has been indexed.
func (a *Announcer) ManifestIndexed(ctx context.Context, tx pgx.Tx, ev schemas.IndexedEvent) error {
	x := ev.Extensions
	if names := ev.Data.Manifest.Names; x.Image == nil && len(names) > 0 {
		x.Image = &names[0]
	}
	ev.Data.Manifest = filled(ev.Data.Manifest)
	r, err := a.Events.New(ctx, schemas.TypeManifestIndexed, ev.Data.Manifest.Digest, x, ev.Data)
	if err != nil {
		return err
	}
	r.Key = schemas.ChangeKey{ManifestID: ev.ManifestID, InventoryID: ev.InventoryID, NamingID: ev.NamingID}
	r.Names = ev.Data.Manifest.Names
	return a.emit(ctx, tx, r, audience{})
}

// ManifestIndexFailed announces in tx that indexing a manifest was given up.
func (a *Announcer) ManifestIndexFailed(ctx context.Context, tx pgx.Tx, data schemas.ManifestIndexFailed) error {
	data.Manifest = filled(data.Manifest)
	var x schemas.Extensions
	if len(data.Manifest.Names) > 0 {
		x.Image = &data.Manifest.Names[0]
	}
	r, err := a.Events.New(ctx, schemas.TypeManifestIndexFailed, data.Manifest.Digest, x, data)
	if err != nil {
		return err
	}
	r.Names = data.Manifest.Names
	return a.emit(ctx, tx, r, audience{})
}

// ManifestRetired announces in tx that a manifest is no longer watched.
func (a *Announcer) ManifestRetired(ctx context.Context, tx pgx.Tx, ev schemas.RetiredEvent) error {
	ev.Data.Manifest = filled(ev.Data.Manifest)
	m := ev.Data.Manifest
	x := schemas.Extensions{Superseded: &m.Superseded}
	if len(m.Names) > 0 {
		x.Image = &m.Names[0]
	}
	r, err := a.Events.New(ctx, schemas.TypeManifestRetired, m.Digest, x, ev.Data)
	if err != nil {
		return err
	}
	r.Key = schemas.ChangeKey{ManifestID: ev.ManifestID, NamingID: ev.NamingID}
	r.Names = m.Names
	return a.emit(ctx, tx, r, audience{})
}

// UpdateCompleted announces in tx that an update has been worked through.
func (a *Announcer) UpdateCompleted(ctx context.Context, tx pgx.Tx, data schemas.UpdateCompleted) error {
	return a.announce(ctx, tx, schemas.TypeUpdateCompleted, "", ofUpdate(data.Update), data)
}

// UpdateFailed announces in tx that a feed could not be updated.
func (a *Announcer) UpdateFailed(ctx context.Context, tx pgx.Tx, data schemas.UpdateFailed) error {
	var x schemas.Extensions
	if data.Updater != "" {
		x.Updater = &data.Updater
	}
	return a.announce(ctx, tx, schemas.TypeUpdateFailed, "", x, data)
}

// UpdateHeld announces in tx that an update waits to be accepted.
func (a *Announcer) UpdateHeld(ctx context.Context, tx pgx.Tx, data schemas.UpdateHeld) error {
	return a.announce(ctx, tx, schemas.TypeUpdateHeld, "", schemas.Extensions{Updater: &data.Updater}, data)
}

// UpdateStale announces in tx that a feed has failed for longer than it may.
func (a *Announcer) UpdateStale(ctx context.Context, tx pgx.Tx, data schemas.UpdateStale) error {
	var x schemas.Extensions
	if data.Updater != "" {
		x.Updater = &data.Updater
	}
	return a.announce(ctx, tx, schemas.TypeUpdateStale, "", x, data)
}

// JobRejected announces in tx that a message could not be understood.
func (a *Announcer) JobRejected(ctx context.Context, tx pgx.Tx, data schemas.JobRejected) error {
	data.Payload = text.Cut(data.Payload, 1024)
	return a.announce(ctx, tx, schemas.TypeJobRejected, "", schemas.Extensions{}, data)
}

// SubscriptionFailing announces in tx, to the other subscriptions of its owner
// and to those without an owner, that a subscription's breaker opened.
func (a *Announcer) SubscriptionFailing(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	return a.announceState(ctx, tx, schemas.TypeSubscriptionFailing, s)
}

// SubscriptionRecovered announces in tx, to the other subscriptions of its owner
// and to those without an owner, that a subscription's breaker closed.
func (a *Announcer) SubscriptionRecovered(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	return a.announceState(ctx, tx, schemas.TypeSubscriptionRecovered, s)
}

// SubscriptionDisabled disables a subscription in tx and announces it to all
// others. One that is disabled or deleted already is not changed, and nothing is
// announced.
func (a *Announcer) SubscriptionDisabled(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error {
	id, err := uuid.Parse(s.Subscription)
	if err != nil {
		return fmt.Errorf("notifier: disable subscription %q: %w", s.Subscription, err)
	}
	if disabled, err := subscription.Disable(ctx, tx, id, s.Reason); err != nil || !disabled {
		return err
	}
	return a.announceState(ctx, tx, schemas.TypeSubscriptionDisabled, s)
}

func (a *Announcer) announceState(ctx context.Context, tx pgx.Tx, typ string, s schemas.SubscriptionState) error {
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
	r, err := a.Events.New(ctx, typ, "", schemas.Extensions{}, s)
	if err != nil {
		return err
	}
	owner, err := subscription.Owner(ctx, tx, id)
	if err != nil {
		return err
	}
	if owner != "" {
		r.Scope = &eventlog.Scope{Owner: owner}
	}
	return a.emit(ctx, tx, r, audience{owner: owner, except: id})
}

func (a *Announcer) announce(ctx context.Context, tx pgx.Tx, typ, subject string, x schemas.Extensions, data any) error {
	r, err := a.Events.New(ctx, typ, subject, x, data)
	if err != nil {
		return err
	}
	return a.emit(ctx, tx, r, audience{})
}

// audience is whom an event may be delivered to.
type audience struct {
	owner  string    // to subscriptions of this owner and of none; "": to all
	except uuid.UUID // but not to this one
}

func (to audience) has(s *subscriber) bool {
	return s.id != to.except && (to.owner == "" || s.owner == "" || s.owner == to.owner)
}

// emit writes one event and its deliveries to every subscription of the audience
// that wants it.
func (a *Announcer) emit(ctx context.Context, tx pgx.Tx, r *eventlog.Record, to audience) error {
	defer a.metrics.since(time.Now())
	v, err := a.subscribers.current(ctx, tx)
	if err != nil {
		return err
	}
	if err := r.Insert(ctx, tx); err != nil {
		return err
	}
	a.hint(tx)
	a.metrics.events.WithLabelValues(r.Type).Inc()
	return a.deliver(ctx, tx, v, r, to)
}

// deliver enqueues an event that has been written for every subscription of the
// audience whose filters its attributes pass. A filter that reads the data is tried later.
func (a *Announcer) deliver(ctx context.Context, tx pgx.Tx, v *view, r *eventlog.Record, to audience) error {
	var owed []schemas.NewDelivery
	var later []uuid.UUID
	for s := range v.matching(ctx, &r.Event) {
		switch {
		case !to.has(s):
		case s.set.NeedsData():
			later = append(later, s.id)
		default:
			owed = append(owed, schemas.NewDelivery{EventID: r.UUID, SubscriptionID: s.id})
		}
	}
	if err := leaveEventForLater(ctx, tx, r.UUID, later); err != nil {
		return err
	}
	return a.enqueue(ctx, tx, owed)
}

func (a *Announcer) enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.NewDelivery) error {
	if len(owed) == 0 {
		return nil
	}
	if a.Enqueuer == nil {
		return fmt.Errorf("notifier: there is no queue for %d deliveries", len(owed))
	}
	if err := a.Enqueuer.Enqueue(ctx, tx, owed); err != nil {
		return fmt.Errorf("notifier: enqueue %d deliveries: %w", len(owed), err)
	}
	a.metrics.deliveries.Add(float64(len(owed)))
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
