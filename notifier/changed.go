package notifier

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/traceparent"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// ManifestsChanged announces in tx one event for each row of the transaction's
// temporary table affected_manifest, and a digest for each group of subscribers
// that wants one. It returns the number of events, digests not counted. It is
// called once a change. It reads the events back in batches, so that its memory
// does not grow with their number.
func (a *Announcer) ManifestsChanged(ctx context.Context, tx pgx.Tx, changeID int64, update schemas.Update) (int64, error) {
	defer a.metrics.since(time.Now())
	ctx = traceparent.Start(ctx) // one trace for all of them
	written, err := a.Events.InsertChanged(ctx, tx, changeID, update)
	if err != nil || written.Events == 0 {
		return 0, err
	}
	a.hint(tx)
	a.metrics.events.WithLabelValues(schemas.TypeVulnerabilitiesChanged).Add(float64(written.Events))
	v, err := a.subscribers.current(ctx, tx)
	if err != nil {
		return 0, err
	}
	c := &change{Announcer: a, Changed: written, view: v, update: update, digests: map[string]*digest{}, pending: map[uuid.UUID]*subscriber{}}
	if err := c.match(ctx, tx); err != nil {
		return 0, err
	}
	if err := c.leaveForLater(ctx, tx); err != nil {
		return 0, err
	}
	return written.Events, c.writeDigests(ctx, tx)
}

// change is the work of one ManifestsChanged.
type change struct {
	*Announcer
	eventlog.Changed
	view    *view
	update  schemas.Update
	digests map[string]*digest
	pending map[uuid.UUID]*subscriber // to be matched with the data, later
}

// digest is the digest of a group, made at the first call.
func (c *change) digest(group string) *digest {
	d := c.digests[group]
	if d == nil {
		d = &digest{}
		c.digests[group] = d
	}
	return d
}

// match reads the events back, a batch at a time, and enqueues their deliveries.
func (c *change) match(ctx context.Context, tx pgx.Tx) error {
	events, digests := c.view.index.types[schemas.TypeVulnerabilitiesChanged], c.view.index.digests
	if events.empty() && digests.empty() {
		return nil
	}
	var owed []schemas.NewDelivery
	for after := c.After; ; {
		batch, err := c.Read(ctx, tx, after, c.Batch)
		if err != nil {
			return err
		}
		for _, e := range batch {
			for s := range matching(ctx, events, &e.Event) {
				if s.set.NeedsData() {
					c.pending[s.id] = s
				} else {
					owed = append(owed, schemas.NewDelivery{EventID: e.UUID, SubscriptionID: s.id})
				}
			}
			for s := range matching(ctx, digests, &e.Event) {
				if s.set.NeedsData() {
					c.pending[s.id] = s
				} else {
					c.digest(s.digests).add(e)
				}
			}
			if len(owed) >= c.Batch {
				if err := c.enqueue(ctx, tx, owed); err != nil {
					return err
				}
				owed = owed[:0]
			}
		}
		if len(batch) < c.Batch {
			return c.enqueue(ctx, tx, owed)
		}
		after = batch[len(batch)-1].UUID
	}
}
