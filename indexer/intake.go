package indexer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/text"
)

// intakeConcurrency is how many messages are written down at a time.
const intakeConcurrency = 4

// take writes one message from outside down: as a request, or as a rejected
// job with the reason. Only then may the message go, so what it returns is nil,
// an error that makes it come again, or [bus.ErrTerminate].
func (ix *Indexer) take(ctx context.Context, m bus.Message) error {
	r, err := parseMessage(m)
	if err == nil {
		_, err = ix.Enqueue(ctx, r)
		if err == nil {
			ix.metrics.intake.WithLabelValues("accepted").Inc()
			return nil
		}
		if len(Invalid(err)) == 0 && !errors.Is(err, ErrOtherLayers) {
			return fmt.Errorf("take in a manifest: %w", err)
		}
	}
	if _, rerr := ix.opts.Jobs.Reject(ctx, JobKind, text.RedactMessage(m.Data), rejection(err)); rerr != nil {
		return rerr
	}
	ix.metrics.intake.WithLabelValues("rejected").Inc()
	return fmt.Errorf("%w: %w", err, bus.ErrTerminate)
}

// rejection is why a message is refused, in one line.
func rejection(err error) string {
	invalid := Invalid(err)
	if len(invalid) == 0 {
		return err.Error()
	}
	reasons := make([]string, len(invalid))
	for i, e := range invalid {
		reasons[i] = e.Error()
	}
	return strings.Join(reasons, "; ")
}
