package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// laneHost is the worker as its lanes see it.
type laneHost struct{ *Worker }

var _ host = laneHost{}

func (h laneHost) now() time.Time        { return h.Worker.now() }
func (h laneHost) mayAct() bool          { return h.replica.mayAct() }
func (h laneHost) read(f fetch)          { h.fetches.ask(f) }
func (h laneHost) settle(s []settlement) { h.settles.add(s) }
func (h laneHost) announcer() Announcer  { return h.o.Announcer }
func (h laneHost) start(f func())        { h.started.Go(f) }

// write runs a note in a transaction.
func (h laneHost) write(ctx context.Context, subscription uuid.UUID, n note) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, h.hot, func(tx pgx.Tx) error { return n(ctx, tx) })
	if err != nil {
		h.log.WarnContext(ctx, "health of a subscription not recorded", slog.String("subscription", subscription.String()), slog.Any("error", err))
		return err
	}
	return nil
}

// give gives a lane back.
func (h laneHost) give(l *lane, why endReason) {
	ctx := context.WithoutCancel(l.ctx)
	switch why {
	case endLost, endShutdown:
		// Another's, or given back with all others.
	case endDeleted:
		h.metrics.dead.DeleteLabelValues(l.id.String())
		h.dropLane(ctx, l.id, l.owner, l.token)
	default:
		h.release(ctx, l.id, l.owner, l.token)
	}
	h.mu.Lock()
	if h.lanes[l.id] == l {
		delete(h.lanes, l.id)
		h.metrics.lanes.Dec()
	}
	h.mu.Unlock()
	h.wake()
}
