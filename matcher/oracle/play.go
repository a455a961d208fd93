package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/schemas"
)

// play is a scenario under way.
type play struct {
	*Setup
	s        *Scenario
	coverage Coverage
	wrong    []Mismatch

	// now and worked are what libvuln says of each of the scenario's reports
	// after the last update, and after the last one the engine was let at.
	now, worked []Findings
	pending     []*pendingUpdate
	// current is the report each indexed manifest has now.
	current map[int32]int

	events map[schemas.ChangeKey][]byte

	means map[string]string // the digest that a name stands for
	had   map[string]bool   // digests that a name has stood for
}

// pendingUpdate is an update the engine has not been let at.
type pendingUpdate struct {
	step    int
	ref     string
	updater string
	diffs   []Difference // by report
	now     []Findings   // by report, after it
}

// arrival is a manifest that was indexed while pending updates were worked
// through: from the one numbered after on, it has the report.
type arrival struct {
	id            int32
	report, after int
}

// Play plays a scenario. Mismatches are what it is about; an error is a
// failure to play at all.
func (w *Setup) Play(ctx context.Context, s *Scenario) ([]Mismatch, Coverage, error) {
	p := &play{
		Setup: w, s: s, coverage: newCoverage(), current: map[int32]int{}, events: map[schemas.ChangeKey][]byte{},
		means: map[string]string{}, had: map[string]bool{},
	}
	p.coverage.Scenarios = 1
	w.recorder.take()
	// Nothing speaks of the scenario's packages yet: their names are its own.
	for range s.Reports {
		p.now = append(p.now, Findings{})
	}
	clear(w.reports)
	p.worked = p.now
	for i, step := range s.Steps {
		var err error
		switch {
		case step.Index != nil && step.Process:
			err = p.together(ctx, i, *step.Index)
		case step.Index != nil:
			err = p.index(ctx, i, *step.Index)
		case step.Name != nil:
			err = p.name(ctx, step.Name)
		case step.Update != nil:
			err = p.update(ctx, i, step.Update.Updater, func() (uuid.UUID, error) { return p.write(ctx, step.Update) })
		case step.Enrich != nil:
			p.coverage.Enriched++
			err = p.update(ctx, i, step.Enrich.Updater, func() (uuid.UUID, error) { return p.enrich(ctx, step.Enrich) })
		default:
			err = p.process(ctx)
		}
		if err != nil {
			return p.wrong, p.coverage, fmt.Errorf("step %d: %w", i, err)
		}
	}
	if err := p.ask(ctx); err != nil {
		return p.wrong, p.coverage, err
	}
	if err := p.reread(ctx); err != nil {
		return p.wrong, p.coverage, err
	}
	return p.wrong, p.coverage, nil
}

func (p *play) mismatch(step int, digest, format string, a ...any) {
	p.wrong = append(p.wrong, Mismatch{Seed: p.s.Seed, Step: step, Digest: digest, Text: fmt.Sprintf(format, a...)})
}

// index hands a report over while nothing else happens.
func (p *play) index(ctx context.Context, step, report int) error {
	m, err := p.register(ctx, p.s.Reports[report])
	if err != nil {
		return err
	}
	if err := p.engine.Indexed(ctx, m, p.s.Reports[report]); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	indexed, changes, _ := p.recorder.take()
	if len(changes) > 0 {
		p.mismatch(step, m.Digest, "indexing announced %d changes", len(changes))
	}
	_, err = p.arrived(ctx, step, m.ID, report, indexed)
	return err
}

// arrived holds a manifest's indexed event against libvuln and says how many of
// the pending updates the engine had worked through by then. The event must
// count what libvuln said at that moment: what comes after, later events tell.
func (p *play) arrived(ctx context.Context, step int, id int32, report int, indexed []indexedEvent) (after int, err error) {
	r := p.s.Reports[report]
	if _, again := p.current[id]; again {
		p.coverage.Reindexed++
	}
	if len(p.pending) > 0 {
		p.coverage.InFlight++
	}
	p.current[id] = report
	if len(indexed) != 1 {
		p.mismatch(step, r.Hash.String(), "indexing announced %d indexed events, want 1", len(indexed))
		return 0, nil
	}
	after = indexed[0].after
	known := p.worked[report]
	if after > 0 {
		known = p.pending[after-1].now[report]
	}
	if got, want := indexed[0].Data.Vulnerabilities, bySeverity(known); got != want {
		p.mismatch(step, r.Hash.String(), "indexed event counts %+v\n    libvuln counts %+v:\n%s", got, want, known)
	}
	if got := indexed[0].Data.Packages; got != len(r.Packages) {
		p.mismatch(step, r.Hash.String(), "indexed event counts %d packages, want %d", got, len(r.Packages))
	}
	p.checkSuperseded(step, r.Hash.String(), "indexed event", indexed[0].Extensions.Superseded)
	spoken, err := p.spoken(ctx)
	if err != nil {
		return 0, err
	}
	p.checkCoverage(step, r, "indexed event", spoken, indexed[0].Extensions.Coverage)
	return after, nil
}

// bySeverity counts findings as an indexed event does: one for each
// vulnerability and package, at its worst.
func bySeverity(f Findings) schemas.BySeverity {
	var b schemas.BySeverity
	for _, vs := range f {
		rank := 0
		for v := range vs {
			rank = max(rank, schemas.SeverityRank(v.Normalized))
		}
		b.Add(rank, 1)
	}
	return b
}

// update writes an update or an enrichment and notes what it changes about
// every report.
func (p *play) update(ctx context.Context, step int, updater string, write func() (uuid.UUID, error)) error {
	ref, err := write()
	if err != nil {
		return err
	}
	after, err := scan(ctx, p.scanner, p.s.Reports, p.known)
	if err != nil {
		return err
	}
	pu := &pendingUpdate{step: step, ref: ref.String(), updater: updater, now: after}
	for i := range after {
		pu.diffs = append(pu.diffs, difference(p.now[i], after[i]))
	}
	if len(p.pending) > 0 {
		p.coverage.Chained++
	}
	p.pending = append(p.pending, pu)
	p.now = after
	p.coverage.Updates++
	return nil
}

// process lets the engine catch up and holds its events against libvuln.
func (p *play) process(ctx context.Context) error {
	if err := p.engine.ProcessUpdates(ctx); err != nil {
		return fmt.Errorf("process updates: %w", err)
	}
	_, changes, completed := p.recorder.take()
	return p.settle(ctx, maps.Clone(p.current), nil, changes, completed)
}

// together lets the engine catch up while a manifest is indexed. Whichever
// comes first, the manifest must be told of every update once: in its indexed
// event or in one of its own.
func (p *play) together(ctx context.Context, step, report int) error {
	m, err := p.register(ctx, p.s.Reports[report])
	if err != nil {
		return err
	}
	before := maps.Clone(p.current)
	var wg sync.WaitGroup
	var processed, indexing error
	wg.Go(func() { processed = p.engine.ProcessUpdates(ctx) })
	wg.Go(func() { indexing = p.engine.Indexed(ctx, m, p.s.Reports[report]) })
	wg.Wait()
	if err := errors.Join(processed, indexing); err != nil {
		return fmt.Errorf("index and process updates: %w", err)
	}
	indexed, changes, completed := p.recorder.take()
	p.coverage.Together++
	after, err := p.arrived(ctx, step, m.ID, report, indexed)
	if err != nil {
		return err
	}
	if after > 0 && after < len(p.pending) {
		p.coverage.Between++
	}
	return p.settle(ctx, before, &arrival{m.ID, report, after}, changes, completed)
}

// settle holds the events about all pending updates against libvuln. current
// is the report each manifest had before.
func (p *play) settle(ctx context.Context, current map[int32]int, a *arrival, changes []change, completed []schemas.UpdateCompleted) error {
	byRef := map[string]change{}
	for _, c := range changes {
		if _, twice := byRef[c.update.Ref]; twice {
			p.mismatch(-1, "", "update %s was announced twice", c.update.Ref)
		}
		byRef[c.update.Ref] = c
	}
	if len(completed) != len(p.pending) {
		p.mismatch(-1, "", "%d updates were announced as completed, want %d", len(completed), len(p.pending))
	}
	for i, pu := range p.pending {
		if a != nil && a.after == i {
			current[a.id] = a.report
		}
		c, announced := byRef[pu.ref]
		delete(byRef, pu.ref)
		switch {
		case i >= len(completed):
		case completed[i].Update.Ref != pu.ref:
			p.mismatch(pu.step, "", "update %s was announced as completed in the place of %s", completed[i].Update.Ref, pu.ref)
		case completed[i].Manifests != len(c.rows):
			p.mismatch(pu.step, "", "update completed with %d manifests, but %d have events", completed[i].Manifests, len(c.rows))
		}
		if announced && c.update.Updater != pu.updater {
			p.mismatch(pu.step, "", "update of %s announced as of %s", pu.updater, c.update.Updater)
		}
		if err := p.compare(ctx, pu, c, current); err != nil {
			return err
		}
	}
	for ref := range byRef {
		p.mismatch(-1, "", "an update nobody wrote was announced: %s", ref)
	}
	p.pending, p.worked = nil, p.now
	return nil
}

// compare holds one update's events against what libvuln says it changed about
// the reports that the manifests had.
func (p *play) compare(ctx context.Context, pu *pendingUpdate, c change, current map[int32]int) error {
	var keys []schemas.ChangeKey
	for _, row := range c.rows {
		keys = append(keys, schemas.ChangeKey{ChangeID: c.id, ManifestID: row.ManifestID, InventoryID: row.InventoryID, NamingID: row.NamingID})
	}
	var datas []schemas.VulnerabilitiesChanged
	if len(keys) > 0 {
		var err error
		if datas, err = p.engine.RenderChanges(ctx, keys, 0); err != nil {
			return fmt.Errorf("render: %w", err)
		}
		if len(datas) != len(keys) {
			return fmt.Errorf("render: %d of %d events", len(datas), len(keys))
		}
	}
	spoken, err := p.spoken(ctx)
	if err != nil {
		return err
	}
	got := map[int32]Difference{}
	for i, row := range c.rows {
		data := &datas[i]
		raw, err := json.Marshal(data)
		if err != nil {
			return err
		}
		p.events[keys[i]] = raw
		p.coverage.Events++
		report, known := current[row.ManifestID]
		if !known {
			p.mismatch(pu.step, data.Manifest.Digest, "event about a manifest of another scenario")
			continue
		}
		digest := p.s.Reports[report].Hash.String()
		if data.Manifest.Digest != digest {
			p.mismatch(pu.step, digest, "event says it is about %s", data.Manifest.Digest)
		}
		if data.Update.Ref != pu.ref {
			p.mismatch(pu.step, digest, "event says it is of update %s, want %s", data.Update.Ref, pu.ref)
		}
		if len(data.Added) != row.Added || len(data.Removed) != row.Removed || len(data.Revised) != row.Revised ||
			data.Counts.Added != row.Added || data.Counts.Removed != row.Removed || data.Counts.Revised != row.Revised {
			p.mismatch(pu.step, digest, "event lists %d added, %d removed, %d revised; says %+v; its row says %+v",
				len(data.Added), len(data.Removed), len(data.Revised), data.Counts, row)
		}
		got[row.ManifestID] = announced(data)
		p.checkSuperseded(pu.step, digest, "event", row.Superseded)
		p.checkCoverage(pu.step, p.s.Reports[report], "event", spoken, row.Coverage)
		if text := inconsistent(data, row, pu.diffs[report].Was); text != "" {
			p.mismatch(pu.step, digest, "%s", text)
		}
	}
	for id, report := range current {
		want := pu.diffs[report]
		p.count(want)
		switch pu.updater {
		case kevUpdater:
			p.coverage.Exploited += len(want.Revised)
		case epssUpdater:
			p.coverage.Likely += len(want.Revised)
		case cvssUpdater:
			p.coverage.Rescored += len(want.Revised)
		}
		digest := p.s.Reports[report].Hash.String()
		d, told := got[id]
		if told && want.empty() {
			p.mismatch(pu.step, digest, "event about a manifest that did not change")
		}
		for _, part := range []struct {
			what      string
			want, got Findings
			worst     bool
		}{{"added", want.Added, d.Added, true}, {"removed", want.Removed, d.Removed, true}, {"revised", want.Revised, d.Revised, false}} {
			if text := disagree(part.want, part.got, part.worst); text != "" {
				p.mismatch(pu.step, digest, "%s:\n%s", part.what, text)
			}
		}
	}
	return nil
}

// reread collects garbage and renders every event again: it must read the same.
func (p *play) reread(ctx context.Context) error {
	if err := p.engine.CollectGarbage(ctx); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	for key, was := range p.events {
		datas, err := p.engine.RenderChanges(ctx, []schemas.ChangeKey{key}, 0)
		if err != nil {
			return fmt.Errorf("render again: %w", err)
		}
		now, err := json.Marshal(datas[0])
		if err != nil {
			return err
		}
		if !bytes.Equal(was, now) {
			p.mismatch(-1, datas[0].Manifest.Digest, "event reads otherwise later:\n    was %s\n    now %s", was, now)
		}
	}
	return nil
}
