package notifier

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Manifests pages through the manifests of a digest, most severe first, with
// the filters the digest was made with. links.all of a digest leads here.
func (n *Notifier) Manifests(ctx context.Context, id uuid.UUID, cursor string, limit int) (eventlog.Page[schemas.ChangedManifest], error) {
	page := eventlog.Page[schemas.ChangedManifest]{Items: []schemas.ChangedManifest{}}
	after := uuid.Nil
	if cursor != "" {
		var err error
		if after, err = uuid.Parse(cursor); err != nil {
			return page, problem.Refuse(problem.Field{Field: "/cursor", Message: "is not a cursor of this list"})
		}
	}
	d, err := n.digestRecord(ctx, id)
	if err != nil {
		return page, err
	}
	limit = eventlog.PageSize(limit)
	for r, err := range n.digested(ctx, d, after, limit+1) {
		if err != nil {
			return page, err
		}
		if len(page.Items) == limit {
			page.Next = page.Items[limit-1].Event
			break
		}
		page.Items = append(page.Items, *r.Listed())
	}
	return page, nil
}

// digestRecord reads a digest.
func (n *Notifier) digestRecord(ctx context.Context, id uuid.UUID) (*eventlog.Record, error) {
	list, err := n.Log.ByID(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || list[0].Type != schemas.TypeManifestsChanged {
		return nil, problem.New(problem.NotFound, "digest %s: not found", id)
	}
	return list[0], nil
}

// digested yields the events that a digest sums up, from one on.
func (n *Notifier) digested(ctx context.Context, d *eventlog.Record, after uuid.UUID, batch int) iter.Seq2[*eventlog.Record, error] {
	fail := func(err error) iter.Seq2[*eventlog.Record, error] {
		return func(yield func(*eventlog.Record, error) bool) {
			yield(nil, fmt.Errorf("notifier: digest %s: %w", d.ID, err))
		}
	}
	s := &subscriber{set: &filter.Set{}}
	if d.Scope != nil {
		set, problems := n.Subscriptions.Filters.CompileStored(d.Scope.Filters)
		if problems != nil {
			return fail(fmt.Errorf("its filters do not compile: %s", problems[0].Detail))
		}
		s.set, s.plan = set, set.Plan()
	}
	first, until, err := n.Log.RangeOf(ctx, d.Key.ChangeID)
	if err != nil {
		return fail(err)
	}
	if bytes.Compare(after[:], first[:]) < 0 {
		after = first
	}
	return n.matching(ctx, s, after, min(max(batch, eventlog.RenderBatch), eventlog.MaxPage+1), func(after uuid.UUID, limit int) ([]*eventlog.Record, error) {
		return n.Log.Between(ctx, n.Pool, d.Key.ChangeID, after, until, limit)
	})
}
