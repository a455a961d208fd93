package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore/indexer"
)

// Unread is what a scanner could not read of a layer, so that nothing is known
// of what would have been found there.
type Unread struct {
	Layer   string // digest
	Scanner string // claircore's name of it, as "dpkg"
	Kind    string // package, distribution, repository or file
	// Whole says that it read nothing of the layer; else Reason says what it
	// left out.
	Whole  bool
	Reason string

	version string
	at      time.Time
}

// retryUnread is how long a scan that failed for good is not tried again when
// another manifest has the layer.
const retryUnread = 24 * time.Hour

const (
	unreadOfLayers = `
SELECT layer, scanner, kind, whole, reason, version, at FROM tocsin.unread
WHERE layer = ANY(@layers) ORDER BY layer, scanner, kind`

	noteUnread = `
INSERT INTO tocsin.unread (layer, scanner, kind, version, whole, reason)
SELECT * FROM unnest(@layers::text[], @scanners::text[], @kinds::text[], @versions::text[], @wholes::boolean[], @reasons::text[])
ON CONFLICT (layer, scanner, kind, version) DO UPDATE SET whole = EXCLUDED.whole, reason = EXCLUDED.reason, at = now()`

	forgetUnread = `
DELETE FROM tocsin.unread u
USING unnest(@layers::text[], @scanners::text[], @kinds::text[]) AS done(layer, scanner, kind)
WHERE u.layer = done.layer AND u.scanner = done.scanner AND u.kind = done.kind`
)

// unreadOf lists what the present scanners could not read of an image's layers.
func (ix *Indexer) unreadOf(ctx context.Context, sp spec) ([]Unread, error) {
	layers := make([]string, len(sp.Layers))
	for i, l := range sp.Layers {
		layers[i] = l.Hash
	}
	rows, err := ix.opts.Pool.Query(ctx, unreadOfLayers, pgx.NamedArgs{"layers": layers})
	if err != nil {
		return nil, fmt.Errorf("unread layers: %w", err)
	}
	var out []Unread
	var u Unread
	_, err = pgx.ForEachRow(rows, []any{&u.Layer, &u.Scanner, &u.Kind, &u.Whole, &u.Reason, &u.version, &u.at}, func() error {
		if ix.versions[scannerOf{u.Scanner, u.Kind}] == u.version {
			out = append(out, u)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("unread layers: %w", err)
	}
	return out, nil
}

// unreadBefore is what need not be tried again yet.
func (ix *Indexer) unreadBefore(ctx context.Context, sp spec) (map[layerScan]unread, error) {
	list, err := ix.unreadOf(ctx, sp)
	if err != nil {
		return nil, err
	}
	out := map[layerScan]unread{}
	for _, u := range list {
		if time.Since(u.at) < retryUnread {
			out[layerScan{scannerOf{u.Scanner, u.Kind}, u.Layer}] = unread{Version: u.version, Whole: u.Whole, Reason: u.Reason}
		}
	}
	return out, nil
}

// noteUnread writes down what an attempt has found out.
func (s *store) noteUnread(ctx context.Context, a *attempt) error {
	a.mu.Lock()
	var layers, scanners, kinds, versions, reasons, doneLayers, doneScanners, doneKinds []string
	var wholes []bool
	for k, u := range a.notes {
		layers, scanners, kinds = append(layers, k.layer), append(scanners, k.name), append(kinds, k.kind)
		versions, wholes, reasons = append(versions, u.Version), append(wholes, u.Whole), append(reasons, strings.ToValidUTF8(strings.ReplaceAll(u.Reason, "\x00", ""), ""))
	}
	for k := range a.scanned {
		if _, noted := a.notes[k]; !noted {
			doneLayers, doneScanners, doneKinds = append(doneLayers, k.layer), append(doneScanners, k.name), append(doneKinds, k.kind)
		}
	}
	a.mu.Unlock()
	_, forgotten := s.pool.Exec(ctx, forgetUnread, pgx.NamedArgs{"layers": doneLayers, "scanners": doneScanners, "kinds": doneKinds})
	var noted error
	if len(layers) > 0 {
		_, noted = s.pool.Exec(ctx, noteUnread, pgx.NamedArgs{
			"layers": layers, "scanners": scanners, "kinds": kinds, "versions": versions, "wholes": wholes, "reasons": reasons,
		})
	}
	if err := errors.Join(forgotten, noted); err != nil {
		return fmt.Errorf("note unread layers: %w", err)
	}
	return nil
}

// maxUnreadWarnings bounds how many are told one by one.
const maxUnreadWarnings = 20

// unreadWarnings tell people what could not be read.
func unreadWarnings(list []Unread) []string {
	var out []string
	for i, u := range list {
		if i == maxUnreadWarnings {
			out = append(out, fmt.Sprintf("%d more scans could not read their layer", len(list)-i))
			break
		}
		what := "what it would find there is unknown"
		if !u.Whole {
			what = "the rest of it was read"
		}
		out = append(out, fmt.Sprintf("%s could not read layer %s: %s; %s", u.Scanner, u.Layer, u.Reason, what))
	}
	slices.Sort(out)
	return out
}

// versionsOf are the versions of all scanners.
func versionsOf(ctx context.Context, list []*indexer.Ecosystem) (map[scannerOf]string, error) {
	ps, ds, rs, fs, err := indexer.EcosystemsToScanners(ctx, list)
	if err != nil {
		return nil, err
	}
	out := map[scannerOf]string{}
	for _, s := range indexer.MergeVS(ps, ds, rs, fs) {
		out[scannerKey(s)] = s.Version()
	}
	return out, nil
}
