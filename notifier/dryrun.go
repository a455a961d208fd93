package notifier

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// DryRun says what a subscription would have matched.
type DryRun struct {
	Events  int      `json:"events"`  // recent events looked at
	Stopped bool     `json:"stopped"` // fewer than were asked for, since it cost too much or took too long
	Matched int      `json:"matched"` // those its types and filters let through
	Sample  []string `json:"sample"`  // ids of the newest that matched
}

const (
	dryRunEvents = 500
	dryRunMost   = 5000
	dryRunSample = 10
)

// Bounds of a dry run: what its filters may cost, in steps, and how long it may
// take. It says what it has when it is over them.
const (
	dryRunBudget = 10_000_000
	dryRunTime   = 20 * time.Second
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
	meter := &filter.Meter{}
	whole := ctx
	ctx, cancel := context.WithTimeout(filter.WithMeter(ctx, meter), dryRunTime)
	defer cancel()
	// late says that an error is the end of the time and nothing else.
	late := func(err error) bool { return err != nil && ctx.Err() != nil && whole.Err() == nil }
	for out.Events < events {
		if meter.Spent() > dryRunBudget {
			out.Stopped = true
			break
		}
		batch, err := n.Log.Before(ctx, owner, before, min(8*eventlog.RenderBatch, events-out.Events))
		if late(err) {
			out.Stopped = true
			break
		}
		if err != nil {
			return out, err
		}
		if len(batch) == 0 {
			break
		}
		before = batch[len(batch)-1].UUID
		for part := range slices.Chunk(batch, eventlog.RenderBatch) {
			looked := len(part)
			part = slices.DeleteFunc(slices.Clone(part), func(r *eventlog.Record) bool { return !slices.Contains(types, r.Type) })
			part, err := n.wanted(ctx, part, s)
			if out.Stopped = ctx.Err() != nil && whole.Err() == nil || meter.Spent() > dryRunBudget; late(err) {
				break
			}
			if err != nil {
				return out, err
			}
			out.Events += looked
			out.Matched += len(part)
			slices.SortFunc(part, func(a, b *eventlog.Record) int { return slices.Compare(b.UUID[:], a.UUID[:]) })
			for _, r := range part {
				if len(out.Sample) < dryRunSample {
					out.Sample = append(out.Sample, r.ID)
				}
			}
			if out.Stopped {
				break
			}
		}
		if out.Stopped {
			break
		}
	}
	return out, whole.Err()
}
