package notifier

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// DryRun says what a subscription would have matched.
type DryRun struct {
	Events  int      `json:"events"`  // recent events looked at
	Matched int      `json:"matched"` // those its types and filters let through
	Sample  []string `json:"sample"`  // ids of the newest that matched
}

const (
	dryRunEvents = 500
	dryRunMost   = 5000
	dryRunSample = 10
)

// DryRun tries a subscription of an owner, which need not exist, on the newest
// events that the owner may see ("": all), 500 unless events says otherwise, at most 5,000. Of a
// subscription that wants digests it counts the events that would go into
// them. A subscription that is not valid is [problem.Invalid].
func (n *Notifier) DryRun(ctx context.Context, owner string, spec schemas.Subscription, events int) (DryRun, error) {
	out := DryRun{Sample: []string{}}
	if events <= 0 {
		events = dryRunEvents
	}
	set, fields := n.Subscriptions.Compile(spec)
	if len(fields) > 0 {
		return out, problem.Refuse(fields...)
	}
	s := compiled(spec, set)
	types := s.types()
	if s.digests != "" {
		types = append(types, schemas.TypeVulnerabilitiesChanged)
	}
	events = min(events, dryRunMost)
	before := uuid.Max
	for out.Events < events {
		batch, err := n.Log.Before(ctx, owner, before, min(8*eventlog.RenderBatch, events-out.Events))
		if err != nil {
			return out, err
		}
		if len(batch) == 0 {
			break
		}
		out.Events += len(batch)
		before = batch[len(batch)-1].UUID
		batch = slices.DeleteFunc(batch, func(r *eventlog.Record) bool { return !slices.Contains(types, r.Type) })
		for part := range slices.Chunk(batch, eventlog.RenderBatch) {
			part, err := n.wanted(ctx, part, s)
			if err != nil {
				return out, err
			}
			out.Matched += len(part)
			slices.SortFunc(part, func(a, b *eventlog.Record) int { return slices.Compare(b.UUID[:], a.UUID[:]) })
			for _, r := range part {
				if len(out.Sample) < dryRunSample {
					out.Sample = append(out.Sample, r.ID)
				}
			}
		}
	}
	return out, nil
}
