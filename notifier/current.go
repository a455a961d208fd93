package notifier

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// Current sends one subscription those of the manifests that its filters let
// through, as indexed events of its own that are marked as a snapshot, whatever
// types it asks for. They are delivered as fast as its rate allows. It returns
// how many they are.
func (n *Notifier) Current(ctx context.Context, owner, id string, manifests []schemas.IndexedEvent) (int, error) {
	s, err := n.Subscriptions.Get(ctx, owner, id)
	if err != nil {
		return 0, err
	}
	if s.State == schemas.StateDisabled {
		return 0, problem.New(problem.Conflict, "subscription %s is disabled; resume it first", id)
	}
	set, fields := n.Subscriptions.Compile(s)
	if len(fields) > 0 {
		return 0, problem.Refuse(fields...)
	}
	want := compiled(s, set)
	var records []*eventlog.Record
	for _, m := range manifests {
		x := m.Extensions
		if names := m.Data.Manifest.Names; x.Image == nil && len(names) > 0 {
			x.Image = &names[0]
		}
		m.Data.Manifest = filled(m.Data.Manifest)
		r, err := n.Events.New(ctx, schemas.TypeManifestIndexed, m.Data.Manifest.Digest, x, m.Data)
		if err != nil {
			return 0, err
		}
		r.Names = m.Data.Manifest.Names
		if !want.plan.Allows(&r.Event) || !want.set.Match(ctx, &r.Event) {
			continue
		}
		r.Key = schemas.ChangeKey{ManifestID: m.ManifestID, InventoryID: m.InventoryID, NamingID: m.NamingID}
		r.Scope = &eventlog.Scope{Subscription: s.ID}
		records = append(records, r)
	}
	if len(records) == 0 {
		return 0, nil
	}
	err = pgx.BeginFunc(ctx, n.Pool, func(tx pgx.Tx) error {
		var owed []schemas.NewDelivery
		for _, r := range records {
			if err := r.Insert(ctx, tx); err != nil {
				return err
			}
			owed = append(owed, schemas.NewDelivery{EventID: r.UUID, SubscriptionID: uuid.MustParse(s.ID)})
		}
		return n.enqueue(ctx, tx, owed)
	})
	if err != nil {
		return 0, err
	}
	n.metrics.events.WithLabelValues(schemas.TypeManifestIndexed).Add(float64(len(records)))
	if n.Waker != nil {
		n.Waker.Wake(bus.WakeDelivery)
	}
	return len(records), nil
}
