package jobs

import (
	"context"
	"sync"
)

type reportKey struct{}

// A report holds the progress and the result that a running job has reported.
type report struct {
	mu               sync.Mutex
	progress, result string
	changed          bool
}

// take returns the report, and whether it has changed since it was last taken.
func (r *report) take() (progress, result string, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed, r.changed = r.changed, false
	return r.progress, r.result, changed
}

// again makes the next take a change.
func (r *report) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = true
}

// Progress says what the job of ctx is doing now, for people. It is written to
// the job's row within a second, the newest if there are several; outside of a
// job it does nothing. At most 1 KiB is kept.
func Progress(ctx context.Context, text string) {
	if r, ok := ctx.Value(reportKey{}).(*report); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		text = clean(text, maxProgress)
		r.changed = r.changed || r.progress != text
		r.progress = text
	}
}

// Result says what has come of the job of ctx, such as a digest. It is written
// like Progress, and at the latest when the job ends.
func Result(ctx context.Context, text string) {
	if r, ok := ctx.Value(reportKey{}).(*report); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		text = clean(text, maxProgress)
		r.changed = r.changed || r.result != text
		r.result = text
	}
}
