package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/jobs"
)

// TestStormOfRejectedMessages: three thousand messages that nobody understands are
// a handful of jobs and events, and none goes uncounted.
func TestStormOfRejectedMessages(t *testing.T) {
	const all, publishers = 3000, 8
	var announced atomic.Int64
	o := fast()
	o.OnFailed = func(_ context.Context, _ pgx.Tx, j jobs.Job) error {
		if !j.Rejected {
			t.Errorf("announced: %+v", j)
		}
		announced.Add(1)
		return nil
	}
	f := setup(t, o)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range all / publishers {
				if _, err := f.store.Reject(t.Context(), "k", fmt.Appendf(nil, "junk %d of %d", i, p), "not JSON"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var rows, messages int64
	if err := f.pool.QueryRow(t.Context(), `SELECT count(*), sum(messages) FROM tocsin.job WHERE rejected`).Scan(&rows, &messages); err != nil {
		t.Fatal(err)
	}
	// Ten alone, some that came at the same moment, and one or two that count the rest.
	if rows > 10+publishers+2 || messages != all || announced.Load() != rows {
		t.Errorf("%d messages are %d jobs that count %d, with %d events", all, rows, messages, announced.Load())
	}
	again, err := f.store.Reject(t.Context(), "k", []byte("junk 0 of 0"), "not JSON")
	if err != nil || !again.Rejected {
		t.Errorf("a message again: %+v, %v", again, err)
	}
	if _, err := f.store.Reject(t.Context(), "other", []byte("junk"), "not JSON"); err != nil || announced.Load() != rows+1 {
		t.Errorf("another kind's first message: %d events, %v", announced.Load(), err)
	}
}
