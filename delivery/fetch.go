package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// The first due deliveries of each of several subscriptions after a place
	// in each one's queue, with one index range a subscription.
	fetchSQL = `
SELECT s.n, q.id, q.event_id, q.attempts, q.next_attempt_at
FROM unnest(@ids::uuid[], @limits::integer[], @times::timestamptz[], @afters::uuid[]) WITH ORDINALITY AS s(id, most, at, after, n)
CROSS JOIN LATERAL (
  SELECT d.id, d.event_id, d.attempts, d.next_attempt_at FROM tocsin.queue d
  WHERE d.subscription_id = s.id AND d.next_attempt_at <= now() AND (d.next_attempt_at, d.id) > (s.at, s.after)
  ORDER BY d.next_attempt_at, d.id LIMIT s.most) q`

	// The first deliveries of one subscription in the order of events, due or
	// not, with how long until each is.
	fetchOrderedSQL = `
SELECT id, event_id, attempts, (extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000000)::bigint
FROM tocsin.queue WHERE subscription_id = @id ORDER BY event_id, id LIMIT @most`
)

// fetch is a lane's wish for due deliveries.
type fetch struct {
	lane    *lane
	id      uuid.UUID
	limit   int
	after   place
	ordered bool
}

// fetcher reads due deliveries for many lanes at a time.
type fetcher struct {
	w      *Worker
	signal chan struct{}

	mu     sync.Mutex
	wishes []fetch
}

func newFetcher(w *Worker) *fetcher { return &fetcher{w: w, signal: make(chan struct{}, 1)} }

// ask queues a wish; the lane is told [fetched] in answer. It does not block, and
// a lane has one wish at a time.
func (f *fetcher) ask(w fetch) {
	f.mu.Lock()
	f.wishes = append(f.wishes, w)
	f.mu.Unlock()
	f.notify()
}

func (f *fetcher) notify() {
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

// maxFetch is how many lanes one statement fetches for.
const maxFetch = 64

func (f *fetcher) take() []fetch {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.wishes), maxFetch)
	some := f.wishes[:n:n]
	f.wishes = f.wishes[n:]
	if len(f.wishes) > 0 {
		f.notify()
	}
	return some
}

func (f *fetcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.signal:
		}
		f.fetch(ctx, f.take())
	}
}

// fetch answers wishes.
func (f *fetcher) fetch(ctx context.Context, wishes []fetch) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var plain []fetch
	for _, w := range wishes {
		if !w.ordered {
			plain = append(plain, w)
			continue
		}
		rows, err := f.ordered(ctx, w)
		f.answer(ctx, w, rows, err)
	}
	if len(plain) == 0 {
		return
	}
	rows, err := f.plain(ctx, plain)
	for i, w := range plain {
		f.answer(ctx, w, rows[i], err)
	}
}

func (f *fetcher) answer(ctx context.Context, w fetch, rows []row, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		f.w.log.WarnContext(ctx, "due deliveries not read", slog.Any("error", err))
	}
	w.lane.post(fetched{rows, err})
}

func (f *fetcher) plain(ctx context.Context, wishes []fetch) ([][]row, error) {
	found := make([][]row, len(wishes))
	ids := make([][16]byte, len(wishes))
	limits := make([]int32, len(wishes))
	times := make([]time.Time, len(wishes))
	afters := make([][16]byte, len(wishes))
	for i, w := range wishes {
		ids[i], limits[i], times[i], afters[i] = w.id, int32(w.limit), w.after.at, w.after.id
	}
	rows, err := f.w.hot.Query(ctx, fetchSQL, pgx.NamedArgs{"ids": ids, "limits": limits, "times": times, "afters": afters})
	if err != nil {
		return found, err
	}
	var (
		n int64
		r row
	)
	_, err = pgx.ForEachRow(rows, []any{&n, (*[16]byte)(&r.id), (*[16]byte)(&r.event), &r.attempts, &r.due}, func() error {
		found[n-1] = append(found[n-1], r)
		return nil
	})
	return found, err
}

func (f *fetcher) ordered(ctx context.Context, w fetch) ([]row, error) {
	rows, err := f.w.hot.Query(ctx, fetchOrderedSQL, pgx.NamedArgs{"id": w.id, "most": w.limit})
	if err != nil {
		return nil, err
	}
	now := f.w.now()
	var (
		found []row
		r     row
		us    int64
	)
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&r.id), (*[16]byte)(&r.event), &r.attempts, &us}, func() error {
		r.due = now.Add(time.Duration(us) * time.Microsecond)
		found = append(found, r)
		return nil
	})
	return found, err
}
