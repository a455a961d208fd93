package matcher

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/schemas"
)

// dictionary holds what findings are rendered from: advisories and packages.
type dictionary struct {
	advisories  map[int64]*schemas.Finding
	occurrences map[int32]*occurrence
}

func newDictionary() *dictionary {
	return &dictionary{advisories: make(map[int64]*schemas.Finding), occurrences: make(map[int32]*occurrence)}
}

// want marks what the lines need for the next load.
func (d *dictionary) want(lines []line) {
	for _, l := range lines {
		if _, ok := d.advisories[l.advisory]; !ok {
			d.advisories[l.advisory] = nil
		}
		if l.previous != nil {
			if _, ok := d.advisories[*l.previous]; !ok {
				d.advisories[*l.previous] = nil
			}
		}
		if _, ok := d.occurrences[l.occurrence]; !ok {
			d.occurrences[l.occurrence] = nil
		}
	}
}

const selectAdvisories = `SELECT id, content FROM tocsin.advisory WHERE id = ANY(@ids)`

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var _ querier = (*pgxpool.Pool)(nil)

// load fetches what is wanted.
func (d *dictionary) load(ctx context.Context, q querier) error {
	return d.loadFrom(ctx, q, selectAdvisories)
}

// loadFrom is load with the advisories from another statement.
func (d *dictionary) loadFrom(ctx context.Context, q querier, advisories string) error {
	var as []int64
	for id, a := range d.advisories {
		if a == nil {
			as = append(as, id)
		}
	}
	err := loadJSON(ctx, q, advisories, as, func(id int64, a *schemas.Finding) { d.advisories[id] = a })
	if err != nil {
		return fmt.Errorf("advisories: %w", err)
	}
	var os []int32
	for id, o := range d.occurrences {
		if o == nil {
			os = append(os, id)
		}
	}
	err = loadJSON(ctx, q, selectOccurrences, os, func(id int32, o *occurrence) { d.occurrences[id] = o })
	if err != nil {
		return fmt.Errorf("occurrences: %w", err)
	}
	return nil
}

// loadJSON reads (id, JSON) rows.
func loadJSON[K int32 | int64, V any](ctx context.Context, q querier, sql string, ids []K, set func(K, *V)) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.Query(ctx, sql, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return err
	}
	var id K
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &body}, func() error {
		v := new(V)
		if err := json.Unmarshal(body, v); err != nil {
			return fmt.Errorf("row %d: %w", id, err)
		}
		set(id, v)
		return nil
	})
	return err
}

// finding renders one line, and what a revision changed.
func (d *dictionary) finding(l line) (schemas.Finding, []schemas.FieldChange, error) {
	a, o := d.advisories[l.advisory], d.occurrences[l.occurrence]
	if a == nil || o == nil {
		return schemas.Finding{}, nil, fmt.Errorf("%w: advisory %d or package %d is gone", ErrUnknownChange, l.advisory, l.occurrence)
	}
	f := findingOf(a, o)
	if l.previous == nil {
		return f, nil, nil
	}
	p := d.advisories[*l.previous]
	if p == nil {
		return schemas.Finding{}, nil, fmt.Errorf("%w: advisory %d is gone", ErrUnknownChange, *l.previous)
	}
	return f, fieldChanges(p, a), nil
}

// findingOf is an advisory as a finding in one occurrence.
func findingOf(a *schemas.Finding, o *occurrence) schemas.Finding {
	f := *a
	f.Package = o.Package.schema()
	f.Distribution, f.Repository = nil, nil
	if f.Aliases == nil {
		f.Aliases = []string{}
	}
	if f.Links == nil {
		f.Links = []string{}
	}
	if r := o.record(a); r != nil {
		if d := r.Distribution; d != nil {
			f.Distribution = &schemas.Distribution{
				DID: d.DID, Name: d.Name, Version: d.Version, VersionID: d.VersionID,
				VersionCodeName: d.VersionCodeName, PrettyName: d.PrettyName, Arch: d.Arch, CPE: d.CPE,
			}
		}
		if r := r.Repository; r != nil {
			f.Repository = &schemas.Repository{Name: r.Name, Key: r.Key, URI: r.URI, CPE: r.CPE}
		}
	}
	return f
}

// record picks, of several, the record whose repository or distribution the
// advisory names; the first, if it names none.
func (o *occurrence) record(a *schemas.Finding) *record {
	if len(o.Records) == 0 {
		return nil
	}
	best, score := &o.Records[0], -1
	for i := range o.Records {
		s := 0
		if r := o.Records[i].Repository; r != nil && a.Repository != nil {
			if r.Name != "" && r.Name == a.Repository.Name {
				s += 4
			}
			if r.Key != "" && r.Key == a.Repository.Key {
				s += 2
			}
		}
		if d := o.Records[i].Distribution; d != nil && a.Distribution != nil && d.DID != "" && d.DID == a.Distribution.DID && d.VersionID == a.Distribution.VersionID {
			s++
		}
		if s > score {
			best, score = &o.Records[i], s
		}
	}
	return best
}

func (p *pkg) schema() schemas.Package {
	s := schemas.Package{Name: p.Name, Version: p.Version, Kind: p.Kind, Arch: p.Arch, Module: p.Module}
	if p.Source != nil {
		src := p.Source.schema()
		s.Source = &src
	}
	return s
}

// fieldChanges lists what a revision changed.
func fieldChanges(from, to *schemas.Finding) []schemas.FieldChange {
	var out []schemas.FieldChange
	differ := func(field string, a, b any) {
		if a != b {
			out = append(out, schemas.FieldChange{Field: field, From: a, To: b})
		}
	}
	differ("severity", from.Severity, to.Severity)
	differ("normalized_severity", from.NormalizedSeverity, to.NormalizedSeverity)
	differ("fixed_in_version", from.FixedInVersion, to.FixedInVersion)
	differ("kev", from.KEV, to.KEV)
	differ("epss", score(from), score(to))
	return out
}

// score is an EPSS score, or nil.
func score(f *schemas.Finding) any {
	if f.EPSS == nil {
		return nil
	}
	return f.EPSS.Score
}
