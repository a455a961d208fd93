package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// base is where this server was when an event was written: what the event's
// links begin with, for ever.
type base struct {
	id  int16 // in tocsin.base_url
	url string
}

const (
	knownBase = `SELECT id FROM tocsin.base_url WHERE url = @url`
	newBase   = `INSERT INTO tocsin.base_url (url) VALUES (@url) ON CONFLICT (url) DO NOTHING`
)

// eventBase is the base of new events. Its row is made once for each URL that
// a database has seen, and never changes.
func (w *Writer) eventBase(ctx context.Context) (base, error) {
	if b := w.base.Load(); b != nil {
		return *b, nil
	}
	b := base{url: w.PublicURL}
	args := pgx.NamedArgs{"url": b.url}
	err := w.Pool.QueryRow(ctx, knownBase, args).Scan(&b.id)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = w.Pool.Exec(ctx, newBase, args); err == nil {
			err = w.Pool.QueryRow(ctx, knownBase, args).Scan(&b.id)
		}
	}
	if err != nil {
		return base{}, fmt.Errorf("eventlog: note the public URL: %w", err)
	}
	w.base.Store(&b)
	return b, nil
}

func (b base) schema(typ string) string { return b.url + "/schemas/" + typ + ".json" }

func (b base) event(id, part string) string { return b.url + "/api/v1/events/" + id + "/" + part }

func (b base) report(digest string) string { return b.url + "/api/v1/images/" + digest + "/report" }
