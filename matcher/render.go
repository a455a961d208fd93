package matcher

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// ErrUnknownChange is returned for a key whose rows are not there (any more).
var ErrUnknownChange = problem.New(problem.NotFound, "unknown change")

// renderChunk is how many events are rendered from one round of queries.
const renderChunk = 16

const (
	selectHeads = `
SELECT k.n, c.updater, c.ref, c.previous, c.date, c.first_load, m.digest, coalesce(n.names, '{}'), coalesce(n.labels, '{}'), coalesce(n.also, '{}')
FROM unnest(@changes::bigint[], @manifests::integer[], @namings::bigint[]) WITH ORDINALITY AS k (change_id, manifest_id, naming_id, n)
JOIN tocsin.change c ON c.id = k.change_id
JOIN tocsin.manifest m ON m.id = k.manifest_id
LEFT JOIN tocsin.naming n ON n.id = k.naming_id`

	// selectLines lists the findings of events, most severe first, in an order
	// that never changes.
	selectLines = `
SELECT k.n, f.occurrence_id, f.kind, f.advisory_id, f.previous_advisory_id, a.severityrank
FROM unnest(@changes::bigint[], @inventories::bigint[]) WITH ORDINALITY AS k (change_id, inventory_id, n)
JOIN tocsin.inventory i ON i.id = k.inventory_id
CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
JOIN tocsin.change_finding f ON f.change_id = k.change_id AND f.occurrence_id = o.id
JOIN tocsin.advisory a ON a.id = f.advisory_id
ORDER BY k.n, a.severityrank DESC, a.fixable DESC, f.advisory_id, f.occurrence_id`
)

// Kinds of findings in a change, as stored.
const (
	added   = 0
	removed = 1
	revised = 2
)

// line is one finding of one event, as ids: its content is looked up later.
type line struct {
	occurrence int32
	kind       int16
	advisory   int64
	previous   *int64
	rank       int16
}

// RenderChanges renders the data of events from rows that never change, most
// severe findings first. Over limit bytes of JSON (0 is no limit) the lists are
// cut and Truncated is set; the counts are of all. A key whose rows are gone is
// [ErrUnknownChange].
func (e *Engine) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	out := make([]schemas.VulnerabilitiesChanged, 0, len(keys))
	for chunk := range slices.Chunk(keys, renderChunk) {
		events, err := e.renderChunk(ctx, chunk, limit)
		if err != nil {
			return nil, fmt.Errorf("render changes: %w", err)
		}
		out = append(out, events...)
	}
	return out, nil
}

func (e *Engine) renderChunk(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	events, err := e.heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	lines, err := e.lines(ctx, keys)
	if err != nil {
		return nil, err
	}
	dict := newDictionary()
	for _, ls := range lines {
		// Enough lines to fill the limit are looked up: a finding takes more
		// than 128 bytes.
		if limit > 0 && len(ls) > limit/128+1 {
			ls = ls[:limit/128+1]
		}
		dict.want(ls)
	}
	if err := dict.load(ctx, e.pool); err != nil {
		return nil, err
	}
	for i := range events {
		if err := fill(&events[i], lines[i], dict, limit); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// heads renders everything but the findings.
func (e *Engine) heads(ctx context.Context, keys []schemas.ChangeKey) ([]schemas.VulnerabilitiesChanged, error) {
	changes, manifests, namings := make([]int64, len(keys)), make([]int32, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		changes[i], manifests[i], namings[i] = k.ChangeID, k.ManifestID, k.NamingID
	}
	rows, err := e.pool.Query(ctx, selectHeads, pgx.NamedArgs{"changes": changes, "manifests": manifests, "namings": namings})
	if err != nil {
		return nil, err
	}
	out := make([]schemas.VulnerabilitiesChanged, len(keys))
	found := 0
	for rows.Next() {
		var n int
		var ref uuid.UUID
		var previous *uuid.UUID
		var v schemas.VulnerabilitiesChanged
		if err := rows.Scan(&n, &v.Update.Updater, &ref, &previous, &v.Update.Date, &v.Update.FirstLoad,
			&v.Manifest.Digest, &v.Manifest.Names, &v.Manifest.Labels, &v.Manifest.Also); err != nil {
			rows.Close()
			return nil, err
		}
		v.Update.Ref, v.Update.Date = ref.String(), v.Update.Date.UTC()
		if previous != nil {
			v.Update.Previous = previous.String()
		}
		if e.opts.Links != nil {
			v.Links = e.opts.Links(keys[n-1], v.Manifest.Digest)
		}
		v.Added, v.Removed, v.Revised = []schemas.Finding{}, []schemas.Finding{}, []schemas.RevisedFinding{}
		out[n-1] = v
		found++
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if found != len(keys) {
		return nil, ErrUnknownChange
	}
	return out, nil
}

// lines lists every event's findings.
func (e *Engine) lines(ctx context.Context, keys []schemas.ChangeKey) ([][]line, error) {
	changes, inventories := make([]int64, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		changes[i], inventories[i] = k.ChangeID, k.InventoryID
	}
	rows, err := e.pool.Query(ctx, selectLines, pgx.NamedArgs{"changes": changes, "inventories": inventories})
	if err != nil {
		return nil, err
	}
	out := make([][]line, len(keys))
	var n int
	var l line
	_, err = pgx.ForEachRow(rows, []any{&n, &l.occurrence, &l.kind, &l.advisory, &l.previous, &l.rank}, func() error {
		out[n-1] = append(out[n-1], l)
		l.previous = nil
		return nil
	})
	return out, err
}

// fill counts the lines and renders as many as fit.
func fill(v *schemas.VulnerabilitiesChanged, lines []line, dict *dictionary, limit int) error {
	for _, l := range lines {
		switch l.kind {
		case added:
			v.Counts.Added++
		case removed:
			v.Counts.Removed++
		case revised:
			v.Counts.Revised++
		}
		if l.kind != removed {
			v.Counts.BySeverity.Add(int(l.rank), 1)
		}
	}
	size := 0
	if limit > 0 {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		size = len(b)
	}
	for _, l := range lines {
		f, changes, err := dict.finding(l)
		if err != nil {
			return err
		}
		if limit > 0 {
			b, err := json.Marshal(schemas.RevisedFinding{Finding: f, Changes: changes})
			if err != nil {
				return err
			}
			if size += len(b) + 1; size > limit {
				v.Truncated = true
				return nil
			}
		}
		switch l.kind {
		case added:
			v.Added = append(v.Added, f)
		case removed:
			v.Removed = append(v.Removed, f)
		case revised:
			v.Revised = append(v.Revised, schemas.RevisedFinding{Finding: f, Changes: changes})
		}
	}
	return nil
}
