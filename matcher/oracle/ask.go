package oracle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/matcher"
)

// ask puts the engine's questions to it, now that it has caught up, and holds
// the answers against libvuln: the report of every manifest, the counts of all
// of them, and who is affected by each vulnerability.
func (p *play) ask(ctx context.Context) error {
	ids := slices.Sorted(maps.Keys(p.current))
	counts, err := p.engine.Counts(ctx, ids)
	if err != nil {
		return fmt.Errorf("counts: %w", err)
	}
	for _, id := range ids {
		ir, want := p.s.Reports[p.current[id]], p.now[p.current[id]]
		p.reports[ir.Hash.String()] = ir
		if got, want := counts[id], bySeverity(want); got != want {
			p.mismatch(-1, ir.Hash.String(), "the engine counts %+v, libvuln %+v", got, want)
		}
		r, err := p.engine.Report(ctx, ir.Hash)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		got, n := Findings{}, 0
		for _, f := range r.Findings() {
			got.add(identifyEvent(&f), verdictOf(&f))
			n++
		}
		if text := disagree(want, got, true); text != "" {
			p.mismatch(-1, ir.Hash.String(), "report:\n%s", text)
		}
		spoken, err := p.spoken(ctx)
		if err != nil {
			return err
		}
		p.checkCoverage(-1, ir, "report", spoken, &r.Coverage.State)
		listed, err := p.engine.Coverages(ctx, []int32{id})
		if err != nil {
			return fmt.Errorf("coverages: %w", err)
		}
		if c, ok := listed[id]; ok {
			p.checkCoverage(-1, ir, "the list", spoken, &c.State)
		}
		if n != len(want) {
			p.mismatch(-1, ir.Hash.String(), "the report lists %d findings, libvuln has %d", n, len(want))
		}
	}
	return p.askAffected(ctx)
}

// askAffected asks who is affected by one of the scenario's CVEs, which may be
// an advisory's name or an alias.
func (p *play) askAffected(ctx context.Context) error {
	cve := newGen(p.s.Seed).cve(int(p.s.Seed % advisoryNames))
	items, _, err := p.engine.Affected(ctx, cve, matcher.Page{Limit: matcher.MaxPage})
	if err != nil && !errors.Is(err, problem.NotFound) { // then nobody must be affected
		return fmt.Errorf("affected: %w", err)
	}
	got := map[string]Findings{}
	for _, a := range items {
		got[a.Manifest.Digest] = Findings{}
		p.checkSuperseded(-1, a.Manifest.Digest, "affected", &a.Manifest.Superseded)
		for i := range a.Findings {
			got[a.Manifest.Digest].add(identifyEvent(&a.Findings[i]), verdictOf(&a.Findings[i]))
		}
	}
	for _, report := range p.current {
		ir := p.s.Reports[report]
		want, err := p.called(ctx, ir, cve)
		if err != nil {
			return err
		}
		if text := disagree(want, got[ir.Hash.String()], false); text != "" {
			p.mismatch(-1, ir.Hash.String(), "affected by %s:\n%s", cve, text)
		}
	}
	return nil
}

// called are libvuln's findings of one report that are called by a CVE.
func (p *play) called(ctx context.Context, ir *claircore.IndexReport, cve string) (Findings, error) {
	vr, err := p.scanner.Scan(ctx, ir)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	out := Findings{}
	for pkg, vulns := range vr.PackageVulnerabilities {
		for _, id := range vulns {
			if v := vr.Vulnerabilities[id]; slices.Contains(cvesOf(v), cve) {
				out.add(identify(v, ir.Packages[pkg]), verdict(v, p.known))
			}
		}
	}
	return out, nil
}
