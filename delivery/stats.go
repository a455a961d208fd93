package delivery

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/uuid7"
)

// Stats is how one subscription fares.
type Stats struct {
	Subscription uuid.UUID
	Backlog      int           // deliveries pending
	Oldest       time.Duration // age of the oldest of them; 0 when there is none
	Dead         int           // dead letters, but for those replayed
	Breaker      string        // "closed", "half-open" or "open"
	HeldUntil    *time.Time    // until when nothing is attempted: the target asked for a pause, or the breaker is open
	FailingSince *time.Time    // since when its breaker has not been closed
	Reason       string        // what opened it
	// The attempts within the window asked for, and how long they took, to
	// about 3 %.
	Attempts      int
	Succeeded     int
	P50, P95, P99 time.Duration
	LastSuccess   *time.Time
}

// SuccessRate is the share of attempts that succeeded; 1 when there were none.
func (s Stats) SuccessRate() float64 {
	if s.Attempts == 0 {
		return 1
	}
	return float64(s.Succeeded) / float64(s.Attempts)
}

const statsSQL = `
WITH waiting AS (
  SELECT subscription_id, count(*) AS backlog, min(id::text)::uuid AS oldest
  FROM tocsin.queue WHERE @subs::uuid[] IS NULL OR subscription_id = ANY(@subs::uuid[]) GROUP BY subscription_id
), tried AS (
  -- Times in steps of a twentieth of e, so that nothing need be sorted.
  SELECT subscription_id, class = 'delivered' AS ok, round(ln(greatest(ms, 0.01)) * 20)::integer AS step, count(*) AS n
  FROM tocsin.attempt
  WHERE at > now() - @window * INTERVAL '1 microsecond' AND delivery_id >= @lo
    AND (@subs::uuid[] IS NULL OR subscription_id = ANY(@subs::uuid[]))
  GROUP BY 1, 2, 3
), times AS (
  SELECT subscription_id, step, sum(sum(n)) OVER (PARTITION BY subscription_id ORDER BY step) AS upto,
    sum(sum(n)) OVER (PARTITION BY subscription_id) AS attempts, sum(coalesce(sum(n) FILTER (WHERE ok), 0)) OVER (PARTITION BY subscription_id) AS succeeded
  FROM tried GROUP BY subscription_id, step
), summed AS (
  SELECT subscription_id, max(attempts) AS attempts, max(succeeded) AS succeeded,
    ARRAY[min(step) FILTER (WHERE upto >= 0.5 * attempts), min(step) FILTER (WHERE upto >= 0.95 * attempts),
      min(step) FILTER (WHERE upto >= 0.99 * attempts)] AS steps
  FROM times GROUP BY subscription_id
), dead AS (
  SELECT subscription_id, count(*) AS dead FROM tocsin.delivery
  WHERE state = 'dead' AND replayed_at IS NULL AND (@subs::uuid[] IS NULL OR subscription_id = ANY(@subs::uuid[]))
  GROUP BY subscription_id
)
SELECT s.id, coalesce(w.backlog, 0), w.oldest, coalesce(d.dead, 0), coalesce(l.breaker, 'closed'), CASE WHEN l.not_before > now() THEN l.not_before END, l.failing_since,
  coalesce(l.reason, ''), coalesce(t.attempts, 0)::bigint, coalesce(t.succeeded, 0)::bigint, t.steps,
  (SELECT finished_at FROM tocsin.delivery x WHERE x.subscription_id = s.id AND x.state = 'delivered' ORDER BY x.id DESC LIMIT 1)
FROM (
  SELECT subscription_id AS id FROM waiting UNION SELECT subscription_id FROM summed UNION SELECT subscription_id FROM dead
  UNION SELECT subscription_id FROM tocsin.lane WHERE @subs::uuid[] IS NULL OR subscription_id = ANY(@subs::uuid[])
) s
LEFT JOIN waiting w ON w.subscription_id = s.id
LEFT JOIN summed t ON t.subscription_id = s.id
LEFT JOIN dead d ON d.subscription_id = s.id
LEFT JOIN tocsin.lane l ON l.subscription_id = s.id
ORDER BY s.id`

// oldestTried is the longest a delivery is tried: attempts within a window
// belong to deliveries enqueued at most that long before it.
const oldestTried = 30 * 24 * time.Hour

// Stats returns how subscriptions fare, attempts of the last window
// considered. subs, unless nil, are the only ones; one that never had
// a delivery is left out.
func (s *Store) Stats(ctx context.Context, subs []uuid.UUID, window time.Duration) ([]Stats, error) {
	now := s.now()
	rows, err := s.db.Query(ctx, statsSQL, pgx.NamedArgs{
		"subs": subs, "window": window.Microseconds(), "lo": uuid7.Floor(now.Add(-window - oldestTried)),
	})
	if err != nil {
		return nil, fmt.Errorf("delivery statistics: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (st Stats, err error) {
		var (
			oldest *uuid.UUID
			steps  []int32
		)
		err = row.Scan(&st.Subscription, &st.Backlog, &oldest, &st.Dead, &st.Breaker, &st.HeldUntil, &st.FailingSince, &st.Reason,
			&st.Attempts, &st.Succeeded, &steps, &st.LastSuccess)
		if oldest != nil {
			st.Oldest = max(now.Sub(uuid7.Time(*oldest)), 0)
		}
		for i, p := range []*time.Duration{&st.P50, &st.P95, &st.P99} {
			if i < len(steps) {
				*p = time.Duration(math.Exp(float64(steps[i])/20) * float64(time.Millisecond))
			}
		}
		return st, err
	})
	if err != nil {
		return nil, fmt.Errorf("delivery statistics: %w", err)
	}
	return list, nil
}
