package notifier

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

const eventsSince = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE id > @after AND id < @until AND (scope IS NULL OR scope = @scope) AND type = ANY(@types)
ORDER BY id LIMIT @limit`

// Select yields the ids of the events of a time span that a subscription, as
// it is now, wants: what a replay sends again. Oldest first; until may be zero
// for now. It holds no connection between its batches.
func (l *Log) Select(ctx context.Context, subscription uuid.UUID, since, until time.Time) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) {
		s, err := l.compiled(ctx, subscription)
		if err != nil {
			yield(uuid.Nil, err)
			return
		}
		args := pgx.NamedArgs{"after": uuidFloor(since.UnixMilli()), "until": uuid.Max, "scope": []byte(nil), "types": s.types(), "limit": 8 * renderBatch}
		if !until.IsZero() {
			args["until"] = uuidFloor(until.UnixMilli())
		}
		if s.digests != "" {
			// Its digests were filtered when they were made.
			args["types"] = append(s.types(), schemas.TypeManifestsChanged)
			if s.digests != everything {
				if args["scope"], err = json.Marshal(s.scope()); err != nil {
					yield(uuid.Nil, err)
					return
				}
			}
		}
		for r, err := range l.matchingRecords(ctx, eventsSince, args, s) {
			if err != nil {
				yield(uuid.Nil, err)
				return
			}
			if !yield(r.id, nil) {
				return
			}
		}
	}
}

// matchingRecords yields the records of a query by ascending id that s wants.
func (l *Log) matchingRecords(ctx context.Context, query string, args pgx.NamedArgs, s *subscriber) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		for {
			batch, err := l.collect(ctx, l.Pool, query, args)
			if err != nil {
				yield(nil, fmt.Errorf("notifier: read events: %w", err))
				return
			}
			more := len(batch) == args["limit"].(int)
			if more {
				args["after"] = batch[len(batch)-1].id
			}
			for part := range slices.Chunk(batch, renderBatch) {
				part, err = l.wanted(ctx, part, s)
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
func (l *Log) wanted(ctx context.Context, records []*record, s *subscriber) ([]*record, error) {
	var kept, undecided []*record
	for _, r := range records {
		switch {
		case r.Type == schemas.TypeManifestsChanged && s.digests != "":
			if (r.scope == nil) == (s.digests == everything) {
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
	undecided, err := l.readable(ctx, undecided)
	if err != nil {
		return nil, err
	}
	for _, r := range undecided {
		if s.set.Match(ctx, &r.Event) {
			kept = append(kept, r)
		}
	}
	slices.SortFunc(kept, func(a, b *record) int { return slices.Compare(a.id[:], b.id[:]) })
	return kept, nil
}

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

const recentEvents = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE scope IS NULL AND id < @before ORDER BY id DESC LIMIT @limit`

// DryRun tries a subscription, which need not exist, on the newest events for
// everybody, 500 unless events says otherwise, at most 5,000. Of a
// subscription that wants digests it counts the events that would go into
// them. What is wrong with the subscription it returns as an *Error.
func (l *Log) DryRun(ctx context.Context, spec schemas.Subscription, events int) (DryRun, error) {
	out := DryRun{Sample: []string{}}
	if events <= 0 {
		events = dryRunEvents
	}
	s, fields := l.compile(spec)
	if len(fields) > 0 {
		return out, &Error{Fields: fields}
	}
	types := s.types()
	if s.digests != "" {
		types = append(types, schemas.TypeVulnerabilitiesChanged)
	}
	events = min(events, dryRunMost)
	args := pgx.NamedArgs{"before": uuid.Max}
	for out.Events < events {
		args["limit"] = min(8*renderBatch, events-out.Events)
		batch, err := l.collect(ctx, l.Pool, recentEvents, args)
		if err != nil {
			return out, fmt.Errorf("notifier: read recent events: %w", err)
		}
		if len(batch) == 0 {
			break
		}
		out.Events += len(batch)
		args["before"] = batch[len(batch)-1].id
		batch = slices.DeleteFunc(batch, func(r *record) bool { return !slices.Contains(types, r.Type) })
		for part := range slices.Chunk(batch, renderBatch) {
			part, err := l.wanted(ctx, part, s)
			if err != nil {
				return out, err
			}
			out.Matched += len(part)
			slices.SortFunc(part, func(a, b *record) int { return slices.Compare(b.id[:], a.id[:]) })
			for _, r := range part {
				if len(out.Sample) < dryRunSample {
					out.Sample = append(out.Sample, r.ID)
				}
			}
		}
	}
	return out, nil
}

const digestedEvents = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `' AND id > @after AND id < @until
ORDER BY id LIMIT @limit`

const rangeOfChange = `SELECT after, until FROM tocsin.change_events WHERE change_id = @change`

// Manifests pages through the manifests of a digest, most severe first, with
// the filters the digest was made with. It is where links.all of a digest
// leads.
func (l *Log) Manifests(ctx context.Context, id uuid.UUID, cursor string, limit int) (Page[schemas.ChangedManifest], error) {
	page := Page[schemas.ChangedManifest]{Items: []schemas.ChangedManifest{}}
	after := uuid.Nil
	if cursor != "" {
		var err error
		if after, err = uuid.Parse(cursor); err != nil {
			return page, &Error{Fields: []FieldError{{Pointer: "/cursor", Detail: "is not a cursor of this list"}}}
		}
	}
	d, err := l.digestRecord(ctx, id)
	if err != nil {
		return page, err
	}
	limit = pageSize(limit)
	for r, err := range l.digested(ctx, d, after, limit+1) {
		if err != nil {
			return page, err
		}
		if len(page.Items) == limit {
			page.Next = page.Items[limit-1].Event
			break
		}
		page.Items = append(page.Items, *r.changedManifest())
	}
	return page, nil
}

// digestRecord reads a digest.
func (l *Log) digestRecord(ctx context.Context, id uuid.UUID) (*record, error) {
	list, err := l.collect(ctx, l.Pool, eventsByID, pgx.NamedArgs{"ids": []uuid.UUID{id}})
	if err != nil {
		return nil, fmt.Errorf("notifier: read event: %w", err)
	}
	if len(list) == 0 || list[0].Type != schemas.TypeManifestsChanged {
		return nil, fmt.Errorf("digest %s: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// digested yields the events that a digest sums up, from one on.
func (l *Log) digested(ctx context.Context, d *record, after uuid.UUID, batch int) iter.Seq2[*record, error] {
	fail := func(err error) iter.Seq2[*record, error] {
		return func(yield func(*record, error) bool) { yield(nil, fmt.Errorf("notifier: digest %s: %w", d.ID, err)) }
	}
	s := &subscriber{set: &filter.Set{}}
	if d.scope != nil {
		set, problems := l.compiler.Compile(d.scope.Filters)
		if problems != nil {
			return fail(fmt.Errorf("its filters do not compile: %s", problems[0].Detail))
		}
		s.set, s.plan = set, set.Plan()
	}
	var first, until uuid.UUID
	err := l.Pool.QueryRow(ctx, rangeOfChange, pgx.NamedArgs{"change": d.key.ChangeID}).Scan(&first, &until)
	if err != nil {
		return fail(fmt.Errorf("read where its events lie: %w", err))
	}
	if after == uuid.Nil {
		after = first
	}
	args := pgx.NamedArgs{"change": d.key.ChangeID, "after": after, "until": until, "limit": min(max(batch, renderBatch), maxPage+1)}
	return l.matchingRecords(ctx, digestedEvents, args, s)
}
