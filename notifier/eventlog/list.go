package eventlog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/notifier/filter/flags"
)

// Page is one page of a list. Next is the cursor of the page after it, "" on the
// last one.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// Bounds of a page: at most MaxPage items, defaultPage if no number is asked for.
const (
	MaxPage     = 1000
	defaultPage = 50
)

// maxPageBytes ends a page of events early: each may take DataLimit.
const maxPageBytes = 8 << 20

// PageSize is how many items a page has for which limit is asked.
func PageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, MaxPage)
}

// Query selects events, newest first: those for everybody and those of an owner.
// The zero value selects all.
type Query struct {
	Owner        string // whose events are selected beside everybody's; "": all owners'
	Types        []string
	Subject      string // manifest digest
	Image        string // shell pattern over the names of the image: * and ?
	Updater      string
	MinRank      int // least severityrank
	Since, Until time.Time
	Cursor       string // Next of the page before
	Limit        int    // default 50, at most 1,000
}

const listEvents = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE ` + visibleTo + ` AND id >= @since AND id < @until
  AND (@types::text[] IS NULL OR type = ANY(@types))
  AND (@subject = '' OR subject = @subject)
  AND (@manifest::integer IS NULL OR manifest_id = @manifest)
  AND (@image = '' OR image LIKE @image
    OR EXISTS (SELECT FROM tocsin.naming n, unnest(n.names) AS name WHERE n.id = naming_id AND name LIKE @image))
  AND (@updater = '' OR updater = @updater)
  AND (@rank::integer = 0 OR severityrank >= @rank)
ORDER BY id DESC LIMIT @limit`

const manifestOfDigest = `SELECT id FROM tocsin.manifest WHERE digest = @digest`

// List returns a page of events with their data. A page of large events is
// shorter than Limit.
func (l *Log) List(ctx context.Context, q Query) (Page[event.Event], error) {
	page := Page[event.Event]{Items: []event.Event{}}
	limit := PageSize(q.Limit)
	args := pgx.NamedArgs{
		"since": uuid.Nil, "until": uuid.Max, "types": q.Types, "subject": q.Subject, "manifest": (*int32)(nil),
		"image": flags.Like(q.Image), "updater": q.Updater, "rank": q.MinRank, "owner": q.Owner, "limit": limit + 1,
	}
	if !q.Since.IsZero() {
		args["since"] = uuid7.Floor(q.Since)
	}
	if !q.Until.IsZero() {
		args["until"] = uuid7.Floor(q.Until)
	}
	if q.Cursor != "" {
		after, err := uuid.Parse(q.Cursor)
		if err != nil {
			return page, badCursor()
		}
		args["until"] = after
	}
	if q.Subject != "" {
		var id int32
		switch err := l.Pool.QueryRow(ctx, manifestOfDigest, pgx.NamedArgs{"digest": q.Subject}).Scan(&id); err {
		case nil:
			args["manifest"] = &id
		case pgx.ErrNoRows:
		default:
			return page, fmt.Errorf("eventlog: list events: %w", err)
		}
	}
	list, err := collect(ctx, l.Pool, listEvents, args)
	if err != nil {
		return page, fmt.Errorf("eventlog: list events: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		page.Next = list[limit-1].ID
	}
	size := 0
	for part := range slices.Chunk(list, RenderBatch) {
		if size > maxPageBytes {
			page.Next = page.Items[len(page.Items)-1].ID()
			break
		}
		part, err = l.Readable(ctx, part)
		if err != nil {
			return page, err
		}
		for _, r := range part {
			size += len(r.Data)
			page.Items = append(page.Items, r.CloudEvent())
		}
	}
	return page, nil
}

// eventFinding is one item of the lists of a vulnerabilities_changed event.
type eventFinding struct {
	Kind    string `json:"kind"`    // added, removed or revised
	Finding any    `json:"finding"` // schemas.Finding or schemas.RevisedFinding
}

// Findings pages through the lists of a vulnerabilities_changed event in full:
// what was added, then what was removed, then what was revised, each with the
// most severe first. kind, if not empty, picks one list. links.all of such an
// event leads here.
func (l *Log) Findings(ctx context.Context, id uuid.UUID, kind, cursor string, limit int) (Page[eventFinding], error) {
	page := Page[eventFinding]{Items: []eventFinding{}}
	from, err := offset(cursor)
	if err != nil {
		return page, err
	}
	if kind != "" && kind != "added" && kind != "removed" && kind != "revised" {
		return page, problem.Refuse(problem.Field{Field: "/kind", Message: "is not added, removed or revised"})
	}
	list, err := l.ByID(ctx, id)
	if err != nil {
		return page, err
	}
	if len(list) == 0 || !list[0].Rendered() {
		return page, problem.New(problem.NotFound, "event %s with findings: not found", id)
	}
	datas, err := l.Whole(ctx, list[0])
	if err != nil {
		return page, err
	}
	data := complete(datas[0])
	var all []eventFinding
	add := func(k string, f any) {
		if kind == "" || kind == k {
			all = append(all, eventFinding{Kind: k, Finding: f})
		}
	}
	for _, f := range data.Added {
		add("added", f)
	}
	for _, f := range data.Removed {
		add("removed", f)
	}
	for _, f := range data.Revised {
		add("revised", f)
	}
	if from > len(all) {
		from = len(all)
	}
	to := min(from+PageSize(limit), len(all))
	page.Items = append(page.Items, all[from:to]...)
	if to < len(all) {
		page.Next = strconv.Itoa(to)
	}
	return page, nil
}

func badCursor() error {
	return problem.Refuse(problem.Field{Field: "/cursor", Message: "is not a cursor of this list"})
}

func offset(cursor string) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(cursor)
	if err != nil || n < 0 {
		return 0, badCursor()
	}
	return n, nil
}
