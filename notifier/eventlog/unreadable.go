package eventlog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// UnreadableError says that some events can't be read, each for a reason of its
// own, such as rows that are gone. The others that were asked for were read.
type UnreadableError struct {
	reasons map[uuid.UUID]error
}

// Unreadable are the reasons, by event.
func (e *UnreadableError) Unreadable() map[uuid.UUID]error { return e.reasons }

func (e *UnreadableError) Error() string {
	for id, reason := range e.reasons {
		return fmt.Sprintf("eventlog: %d events can't be read; %s: %v", len(e.reasons), id, reason)
	}
	return "eventlog: no event that can't be read"
}

// Unwrap returns the reasons.
func (e *UnreadableError) Unwrap() []error {
	out := make([]error, 0, len(e.reasons))
	for _, reason := range e.reasons {
		out = append(out, reason)
	}
	return out
}

// Render gives the records that have none their data. One that can't be rendered
// does not keep the others from theirs: it is returned with its reason. An error
// concerns all of them: the database is away, or ctx has ended.
func (l *Log) Render(ctx context.Context, records []*Record) (map[uuid.UUID]error, error) {
	err := l.render(ctx, records)
	if err == nil {
		return nil, nil
	}
	unreadable := map[uuid.UUID]error{}
	for _, r := range records {
		if len(records) > 1 {
			err = l.render(ctx, []*Record{r})
		}
		if err == nil {
			continue
		}
		// If the database answers, the reason is the event's own.
		if ctx.Err() != nil || l.Renderer == nil || l.Pool.Ping(ctx) != nil {
			return nil, err
		}
		unreadable[r.UUID] = err
	}
	return unreadable, nil
}

// Readable renders the records and returns those that could be. It is for
// lists, which leave the others out and log them.
func (l *Log) Readable(ctx context.Context, records []*Record) ([]*Record, error) {
	unreadable, err := l.Render(ctx, records)
	if err != nil || len(unreadable) == 0 {
		return records, err
	}
	out := make([]*Record, 0, len(records))
	for _, r := range records {
		if reason, ok := unreadable[r.UUID]; ok {
			l.Logger.ErrorContext(ctx, "an event can't be read and is left out", "event", r.ID, "reason", reason)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}
