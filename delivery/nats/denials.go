package nats

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	gonats "github.com/nats-io/nats.go"
)

// denials hands the server's refusals of subjects, which come to a connection
// and not to a message, to those who publish to that subject. The zero value
// will do.
type denials struct {
	mu      sync.Mutex
	waiting map[*wait]struct{}
}

type wait struct {
	subject string
	cancel  context.CancelCauseFunc
}

// watch returns a context that ends with the refusal as its cause when the
// subject is refused. end must be called.
func (d *denials) watch(ctx context.Context, subject string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &wait{subject, cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[*wait]struct{}{}
	}
	d.waiting[w] = struct{}{}
	return ctx, func() {
		d.mu.Lock()
		delete(d.waiting, w)
		d.mu.Unlock()
		cancel(nil)
	}
}

// tell takes an asynchronous error of the connection.
func (d *denials) tell(err error) {
	if !errors.Is(err, gonats.ErrPermissionViolation) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.waiting {
		if concerns(err, w.subject) {
			w.cancel(err)
		}
	}
}

// concerns reports whether a refusal names the subject.
func concerns(refusal error, subject string) bool {
	return strings.Contains(refusal.Error(), "Publish to "+strconv.Quote(subject))
}
