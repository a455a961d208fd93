package notifier

import (
	"context"
	"iter"
	"slices"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// matching yields the records after an id that s wants, by ascending id. read
// reads the next ones after an id, at most limit.
func (n *Notifier) matching(ctx context.Context, s *subscriber, after uuid.UUID, limit int,
	read func(after uuid.UUID, limit int) ([]*eventlog.Record, error)) iter.Seq2[*eventlog.Record, error] {
	return func(yield func(*eventlog.Record, error) bool) {
		for after := after; ; {
			batch, err := read(after, limit)
			if err != nil {
				yield(nil, err)
				return
			}
			more := len(batch) == limit
			if more {
				after = batch[len(batch)-1].UUID
			}
			for part := range slices.Chunk(batch, eventlog.RenderBatch) {
				part, err = n.wanted(ctx, part, s)
				if err != nil {
					yield(nil, err)
					return
				}
				for _, r := range part {
					if !yield(r, nil) {
						return
					}
				}
			}
			if !more {
				return
			}
		}
	}
}

// wanted are those of the records that s wants: its digests, and what its
// filters let through.
func (n *Notifier) wanted(ctx context.Context, records []*eventlog.Record, s *subscriber) ([]*eventlog.Record, error) {
	var kept, undecided []*eventlog.Record
	for _, r := range records {
		switch {
		case r.Type == schemas.TypeManifestsChanged && s.digests != "":
			if (r.Scope == nil) == (s.digests == everything) {
				kept = append(kept, r)
			}
		case !s.plan.Allows(&r.Event) || !s.set.MatchAttributes(ctx, &r.Event):
		case s.set.NeedsData():
			undecided = append(undecided, r)
		default:
			kept = append(kept, r)
		}
	}
	if len(undecided) == 0 {
		return kept, nil
	}
	undecided, err := n.Log.Readable(ctx, undecided)
	if err != nil {
		return nil, err
	}
	for _, r := range undecided {
		if err := n.Log.Complete(ctx, r); err != nil {
			return nil, err
		}
		if s.set.Match(ctx, &r.Event) {
			kept = append(kept, r)
		}
		r.SetData(nil) // nobody needs it any more, and it may be large
	}
	slices.SortFunc(kept, func(a, b *eventlog.Record) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
	return kept, nil
}
