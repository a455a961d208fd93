package notifier

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// UnreadableError says that some events can't be read for a reason of their
// own, such as rows that are gone. What was asked for beside them was read.
type UnreadableError struct {
	reasons map[uuid.UUID]error
}

// Unreadable are the reasons, by event.
func (e *UnreadableError) Unreadable() map[uuid.UUID]error { return e.reasons }

func (e *UnreadableError) Error() string {
	for id, reason := range e.reasons {
		return fmt.Sprintf("notifier: %d events can't be read; %s: %v", len(e.reasons), id, reason)
	}
	return "notifier: no event that can't be read"
}

// Unwrap returns the reasons.
func (e *UnreadableError) Unwrap() []error {
	out := make([]error, 0, len(e.reasons))
	for _, reason := range e.reasons {
		out = append(out, reason)
	}
	return out
}

// renderEach gives the records that have none their data, so that one which
// can't be rendered does not stand in the others' way. It returns those that
// can't, with the reasons. An error is no event's own: the database or whoever
// asks is gone.
func (l *Log) renderEach(ctx context.Context, records []*record) (map[uuid.UUID]error, error) {
	err := l.render(ctx, records)
	if err == nil {
		return nil, nil
	}
	unreadable := map[uuid.UUID]error{}
	for _, r := range records {
		if len(records) > 1 {
			err = l.render(ctx, []*record{r})
		}
		if err == nil {
			continue
		}
		// A database that answers is not to blame.
		if ctx.Err() != nil || l.Renderer == nil || l.Pool.Ping(ctx) != nil {
			return nil, err
		}
		unreadable[r.id] = err
	}
	return unreadable, nil
}

// readable renders the records and returns those that could be. It is for
// lists, which go on without the others.
func (l *Log) readable(ctx context.Context, records []*record) ([]*record, error) {
	unreadable, err := l.renderEach(ctx, records)
	if err != nil || len(unreadable) == 0 {
		return records, err
	}
	out := make([]*record, 0, len(records))
	for _, r := range records {
		if reason, ok := unreadable[r.id]; ok {
			l.Logger.ErrorContext(ctx, "an event can't be read and is left out", "event", r.ID, "reason", reason)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}
