package eventlog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/traceparent"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// WriterOptions is what a Writer works with. Pool is needed, the rest has
// defaults.
type WriterOptions struct {
	Pool      *pgxpool.Pool
	Source    string // of events; default urn:tocsin:<instance>
	PublicURL string // this server as others reach it, for links in new events; default http://127.0.0.1:6060
	Now       func() time.Time
}

// Writer writes events. It is safe for concurrent use.
type Writer struct {
	WriterOptions
	source atomic.Pointer[string]
	base   atomic.Pointer[base]
}

// NewWriter returns a writer; it starts nothing and does not touch the
// database.
func NewWriter(o WriterOptions) (*Writer, error) {
	if o.Pool == nil {
		return nil, errors.New("eventlog: a writer needs a database pool")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.PublicURL = strings.TrimRight(cmp.Or(o.PublicURL, "http://127.0.0.1:6060"), "/")
	w := &Writer{WriterOptions: o}
	if o.Source != "" {
		w.source.Store(&o.Source)
	}
	return w, nil
}

// Prepare reads what every new event needs, so that the first one does not wait
// for it.
func (w *Writer) Prepare(ctx context.Context) error {
	if _, err := w.eventSource(ctx); err != nil {
		return err
	}
	_, err := w.eventBase(ctx)
	return err
}

// New is a new event of this moment with data. It is not written yet.
func (w *Writer) New(ctx context.Context, typ, subject string, x schemas.Extensions, data any) (*Record, error) {
	return w.NewLinked(ctx, typ, subject, x, func(func(string) string) any { return data })
}

// NewLinked is New for data with links to the event itself: data is given a
// function that answers the URL of one of the event's parts.
func (w *Writer) NewLinked(ctx context.Context, typ, subject string, x schemas.Extensions, data func(link func(part string) string) any) (*Record, error) {
	source, err := w.eventSource(ctx)
	if err != nil {
		return nil, err
	}
	base, err := w.eventBase(ctx)
	if err != nil {
		return nil, err
	}
	now := w.Now().UTC()
	id := uuid7.At(now)
	text, err := json.Marshal(data(func(part string) string { return base.event(id.String(), part) }))
	if err != nil {
		return nil, fmt.Errorf("eventlog: data of %s: %w", typ, err)
	}
	if x.Severity == nil {
		x.Severity = severityName(x.SeverityRank)
	}
	return &Record{UUID: id, base: base, Event: filter.Event{
		ID: id.String(), Source: source, Type: typ, Subject: subject, DataSchema: base.schema(typ),
		TraceParent: traceparent.From(traceparent.Start(ctx)), Time: now.Truncate(time.Microsecond), Extensions: x, Data: text,
	}}, nil
}

const instanceID = `
WITH made AS (
  INSERT INTO tocsin.setting (key, value) VALUES ('instance', @id) ON CONFLICT (key) DO NOTHING RETURNING value
)
SELECT value FROM made UNION ALL SELECT value FROM tocsin.setting WHERE key = 'instance' LIMIT 1`

// eventSource is the source of new events. The instance's id is made once for
// a database.
func (w *Writer) eventSource(ctx context.Context) (string, error) {
	if s := w.source.Load(); s != nil {
		return *s, nil
	}
	var id string
	for range 2 {
		// Another process may be making it at the same moment: then neither
		// half of the statement sees it, and the second try does.
		err := w.Pool.QueryRow(ctx, instanceID, pgx.NamedArgs{"id": uuid.NewString()}).Scan(&id)
		if err == nil {
			break
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("eventlog: read the instance's id: %w", err)
		}
	}
	if id == "" {
		return "", fmt.Errorf("eventlog: read the instance's id: %w", pgx.ErrNoRows)
	}
	s := "urn:tocsin:" + id
	w.source.Store(&s)
	return s, nil
}
