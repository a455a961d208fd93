package matcher

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/text"
)

// An occurrence is one package in one set of (distribution, repository)
// records, in canonical form: without the ids of the database it was indexed
// into, the package database, the file's path, the repository hint and the
// detector, none of which claircore's matchers read. Its key is the SHA-256 of
// its JSON.
type occurrence struct {
	Package pkg      `json:"package"`
	Records []record `json:"records"`
}

type pkg struct {
	Name        string     `json:"name,omitempty"`
	Version     string     `json:"version,omitempty"`
	Kind        string     `json:"kind,omitempty"`
	Arch        string     `json:"arch,omitempty"`
	Module      string     `json:"module,omitempty"`
	CPE         string     `json:"cpe,omitempty"`
	NormKind    string     `json:"norm_kind,omitempty"`
	NormVersion *[10]int32 `json:"norm_version,omitempty"`
	Source      *pkg       `json:"source,omitempty"`
}

type record struct {
	Distribution *distribution `json:"distribution,omitempty"`
	Repository   *repository   `json:"repository,omitempty"`
}

type distribution struct {
	DID             string `json:"did,omitempty"`
	Name            string `json:"name,omitempty"`
	Version         string `json:"version,omitempty"`
	VersionID       string `json:"version_id,omitempty"`
	VersionCodeName string `json:"version_code_name,omitempty"`
	PrettyName      string `json:"pretty_name,omitempty"`
	Arch            string `json:"arch,omitempty"`
	CPE             string `json:"cpe,omitempty"`
}

type repository struct {
	Name string `json:"name,omitempty"`
	Key  string `json:"key,omitempty"`
	URI  string `json:"uri,omitempty"`
	CPE  string `json:"cpe,omitempty"`
}

// keyed is an occurrence ready to be stored.
type keyed struct {
	key  [sha256.Size]byte
	body []byte
	occurrence
}

// occurrencesOf returns the occurrences of a report, sorted by key and each
// once: packages of a manifest that differ only in what no matcher reads are
// the same occurrence.
func occurrencesOf(report *claircore.IndexReport) ([]keyed, error) {
	byPackage := make(map[*claircore.Package][]record, len(report.Packages))
	for _, r := range report.IndexRecords() {
		c := record{}
		if r.Distribution != nil {
			c.Distribution = canonicalDistribution(r.Distribution)
		}
		if r.Repository != nil {
			c.Repository = canonicalRepository(r.Repository)
		}
		byPackage[r.Package] = append(byPackage[r.Package], c)
	}
	seen := make(map[[sha256.Size]byte]bool, len(byPackage))
	out := make([]keyed, 0, len(byPackage))
	for p, records := range byPackage {
		sorted, err := canonicalRecords(records)
		if err != nil {
			return nil, err
		}
		k := keyed{occurrence: occurrence{Package: *canonicalPackage(p), Records: sorted}}
		if k.body, err = json.Marshal(k.occurrence); err != nil {
			return nil, err
		}
		k.key = sha256.Sum256(k.body)
		if !seen[k.key] {
			seen[k.key] = true
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b keyed) int { return slices.Compare(a.key[:], b.key[:]) })
	return out, nil
}

// canonicalRecords sorts records and drops repeats.
func canonicalRecords(records []record) ([]record, error) {
	type entry struct {
		json string
		record
	}
	es := make([]entry, len(records))
	for i, r := range records {
		b, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		es[i] = entry{string(b), r}
	}
	slices.SortFunc(es, func(a, b entry) int { return strings.Compare(a.json, b.json) })
	es = slices.CompactFunc(es, func(a, b entry) bool { return a.json == b.json })
	out := make([]record, len(es))
	for i, e := range es {
		out[i] = e.record
	}
	return out, nil
}

func canonicalPackage(p *claircore.Package) *pkg {
	c := &pkg{
		Name: text.Clean(p.Name), Version: text.Clean(p.Version), Kind: kindText(p), Arch: text.Clean(p.Arch),
		Module: text.Clean(p.Module), CPE: cpeText(&p.CPE), NormKind: text.Clean(p.NormalizedVersion.Kind),
	}
	if p.NormalizedVersion.V != [10]int32{} {
		v := p.NormalizedVersion.V
		c.NormVersion = &v
	}
	if p.Source != nil && p.Source.Name != "" {
		c.Source = canonicalPackage(p.Source)
		c.Source.Source = nil
	}
	return c
}

func canonicalDistribution(d *claircore.Distribution) *distribution {
	return &distribution{
		DID: text.Clean(d.DID), Name: text.Clean(d.Name), Version: text.Clean(d.Version), VersionID: text.Clean(d.VersionID),
		VersionCodeName: text.Clean(d.VersionCodeName), PrettyName: text.Clean(d.PrettyName), Arch: text.Clean(d.Arch), CPE: cpeText(&d.CPE),
	}
}

func canonicalRepository(r *claircore.Repository) *repository {
	return &repository{Name: text.Clean(r.Name), Key: text.Clean(r.Key), URI: text.Clean(r.URI), CPE: cpeText(&r.CPE)}
}

// kindText is a package's kind as claircore's tables hold it.
func kindText(p *claircore.Package) string {
	if p.Kind == 0 {
		return ""
	}
	return p.Kind.String()
}

func cpeText(w interface{ MarshalText() ([]byte, error) }) string {
	b, err := w.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}

// indexRecords turns an occurrence back into what a matcher is given. id
// becomes the package's.
func (o *occurrence) indexRecords(id string) ([]*claircore.IndexRecord, error) {
	p, err := o.Package.claircore()
	if err != nil {
		return nil, err
	}
	p.ID = id
	out := make([]*claircore.IndexRecord, len(o.Records))
	for i, r := range o.Records {
		out[i] = &claircore.IndexRecord{Package: p}
		if r.Distribution != nil {
			if out[i].Distribution, err = r.Distribution.claircore(); err != nil {
				return nil, err
			}
		}
		if r.Repository != nil {
			if out[i].Repository, err = r.Repository.claircore(); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (p *pkg) claircore() (*claircore.Package, error) {
	out := &claircore.Package{
		Name: p.Name, Version: p.Version, Arch: p.Arch, Module: p.Module,
		NormalizedVersion: claircore.Version{Kind: p.NormKind}, Source: &claircore.Package{},
	}
	if p.NormVersion != nil {
		out.NormalizedVersion.V = *p.NormVersion
	}
	if p.Kind != "" {
		if err := out.Kind.UnmarshalText([]byte(p.Kind)); err != nil {
			return nil, err
		}
	}
	if err := out.CPE.UnmarshalText([]byte(p.CPE)); err != nil {
		return nil, fmt.Errorf("package CPE: %w", err)
	}
	if p.Source != nil {
		s, err := p.Source.claircore()
		if err != nil {
			return nil, err
		}
		s.Source = nil
		out.Source = s
	}
	return out, nil
}

func (d *distribution) claircore() (*claircore.Distribution, error) {
	out := &claircore.Distribution{
		DID: d.DID, Name: d.Name, Version: d.Version, VersionID: d.VersionID,
		VersionCodeName: d.VersionCodeName, PrettyName: d.PrettyName, Arch: d.Arch,
	}
	if err := out.CPE.UnmarshalText([]byte(d.CPE)); err != nil {
		return nil, fmt.Errorf("distribution CPE: %w", err)
	}
	return out, nil
}

func (r *repository) claircore() (*claircore.Repository, error) {
	out := &claircore.Repository{Name: r.Name, Key: r.Key, URI: r.URI}
	if err := out.CPE.UnmarshalText([]byte(r.CPE)); err != nil {
		return nil, fmt.Errorf("repository CPE: %w", err)
	}
	return out, nil
}
