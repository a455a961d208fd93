package web

import (
	"net/http"
	"net/url"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// comparePage says what going from one image to another would mend and bring.
type comparePage struct {
	A, B           string
	From, To       *v1.Report
	Gone, New      []schemas.Finding
	Both           int
	GoneBy, NewsBy schemas.BySeverity
}

func (v *visit) compare() error {
	q := v.r.URL.Query()
	p := comparePage{A: strings.TrimSpace(q.Get("a")), B: strings.TrimSpace(q.Get("b"))}
	if p.A != "" && p.B != "" {
		p.From, p.To = new(v1.Report), new(v1.Report)
		for ref, r := range map[string]*v1.Report{p.A: p.From, p.B: p.To} {
			if err := v.get("/images/"+url.PathEscape(ref)+"/report", nil, r); err != nil {
				return err
			}
		}
		p.differ()
	}
	v.show(http.StatusOK, "compare", "Compare", p)
	return nil
}

// differ finds out what is in one report and not in the other. A vulnerability
// in another version of the same package is the same.
func (p *comparePage) differ() {
	type key struct{ id, name string }
	in := func(r *v1.Report) map[key]bool {
		out := map[key]bool{}
		for _, f := range r.Vulnerabilities {
			out[key{f.ID, f.Package.Name}] = true
		}
		return out
	}
	before, after := in(p.From), in(p.To)
	for _, f := range p.From.Vulnerabilities {
		k := key{f.ID, f.Package.Name}
		if after[k] {
			continue
		}
		p.Gone = append(p.Gone, f)
		p.GoneBy.Add(schemas.SeverityRank(f.NormalizedSeverity), 1)
	}
	for _, f := range p.To.Vulnerabilities {
		if before[key{f.ID, f.Package.Name}] {
			p.Both++
			continue
		}
		p.New = append(p.New, f)
		p.NewsBy.Add(schemas.SeverityRank(f.NormalizedSeverity), 1)
	}
}
