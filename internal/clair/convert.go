package clair

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/quay/claircore"
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/libvuln/driver"
)

func fromIndexReport(r *claircore.IndexReport) indexReport {
	return indexReport{
		ManifestHash:  r.Hash.String(),
		State:         r.State,
		Packages:      convertMap(r.Packages, fromFound),
		Distributions: convertMap(r.Distributions, fromDistribution),
		Repositories:  convertMap(r.Repositories, fromRepository),
		Environments:  fromEnvironments(r.Environments),
		Success:       r.Success,
		Err:           r.Err,
	}
}

func fromVulnerabilityReport(r *claircore.VulnerabilityReport) vulnerabilityReport {
	out := vulnerabilityReport{
		ManifestHash:           r.Hash.String(),
		Packages:               convertMap(r.Packages, fromFound),
		Distributions:          convertMap(r.Distributions, fromDistribution),
		Repositories:           convertMap(r.Repositories, fromRepository),
		Environments:           fromEnvironments(r.Environments),
		Vulnerabilities:        make(map[string]*vulnerability, len(r.Vulnerabilities)),
		PackageVulnerabilities: map[string][]string{},
		Enrichments:            map[string][]json.RawMessage{},
	}
	for id, v := range r.Vulnerabilities {
		if v.Invert { // an assertion that something is not vulnerable: not Clair's to tell
			continue
		}
		out.Vulnerabilities[id] = fromVulnerability(v)
	}
	for p, ids := range r.PackageVulnerabilities {
		out.PackageVulnerabilities[p] = notNil(ids)
	}
	for k, e := range r.Enrichments {
		if ofClair(k) {
			out.Enrichments[k] = notNil(e)
		}
	}
	return out
}

// ofClair reports whether an enrichment is one that Clair sends: only CVSS.
// Clients such as Quay read every enrichment as CVSS scores.
func ofClair(kind string) bool {
	_, enricher, named := strings.Cut(kind, "enricher=")
	name, _, _ := strings.Cut(enricher, " ")
	return !named || name == cvssEnricher
}

var cvssEnricher = (*cvss.Enricher)(nil).Name()

func fromVulnerability(v *claircore.Vulnerability) *vulnerability {
	out := &vulnerability{
		ID:                 v.ID,
		Updater:            v.Updater,
		Name:               v.Name,
		Description:        v.Description,
		Issued:             v.Issued,
		Links:              v.Links,
		Severity:           v.Severity,
		NormalizedSeverity: v.NormalizedSeverity.String(),
		Package:            fromPackage(v.Package),
		Distribution:       fromDistribution(v.Dist),
		Repository:         fromRepository(v.Repo),
		FixedInVersion:     v.FixedInVersion,
	}
	if v.ArchOperation != 0 {
		out.ArchOp = v.ArchOperation.String()
	}
	if v.Range != nil {
		out.Range = &versionRange{Lower: text(&v.Range.Lower), Upper: text(&v.Range.Upper)}
	}
	return out
}

func fromVulnerabilities(vs []claircore.Vulnerability) []vulnerability {
	out := make([]vulnerability, len(vs))
	for i := range vs {
		out[i] = *fromVulnerability(&vs[i])
	}
	return out
}

// fromFound is a package of a report. It always has a source, if only an empty
// one: Clair's matcher follows it unasked.
func fromFound(p *claircore.Package) *pkg {
	out := fromPackage(p)
	if out != nil && out.Source == nil {
		out.Source = &pkg{}
	}
	return out
}

func fromPackage(p *claircore.Package) *pkg {
	if p == nil {
		return nil
	}
	out := &pkg{
		ID:                p.ID,
		Name:              p.Name,
		Version:           p.Version,
		NormalizedVersion: text(&p.NormalizedVersion),
		Module:            p.Module,
		Arch:              p.Arch,
		CPE:               text(&p.CPE),
	}
	if p.Kind != 0 {
		out.Kind = p.Kind.String()
	}
	if p.Source != nil && p.Source.Name != "" {
		out.Source = fromPackage(p.Source)
	}
	return out
}

func fromDistribution(d *claircore.Distribution) *distribution {
	if d == nil {
		return nil
	}
	return &distribution{
		ID:              d.ID,
		DID:             d.DID,
		Name:            d.Name,
		Version:         d.Version,
		VersionCodeName: d.VersionCodeName,
		VersionID:       d.VersionID,
		Arch:            d.Arch,
		CPE:             text(&d.CPE),
		PrettyName:      d.PrettyName,
	}
}

func fromRepository(r *claircore.Repository) *repository {
	if r == nil {
		return nil
	}
	return &repository{ID: r.ID, Name: r.Name, Key: r.Key, URI: r.URI, CPE: text(&r.CPE)}
}

func fromEnvironments(m map[string][]*claircore.Environment) map[string][]environment {
	out := make(map[string][]environment, len(m))
	for id, envs := range m {
		list := make([]environment, 0, len(envs))
		for _, e := range envs {
			list = append(list, environment{
				PackageDB:      e.PackageDB,
				IntroducedIn:   e.IntroducedIn.String(),
				DistributionID: e.DistributionID,
				RepositoryIDs:  notNil(e.RepositoryIDs),
			})
		}
		out[id] = list
	}
	return out
}

func fromOperation(o driver.UpdateOperation, kind driver.UpdateKind) updateOperation {
	if o.Kind != "" {
		kind = o.Kind
	}
	return updateOperation{Ref: o.Ref, Updater: o.Updater, Fingerprint: string(o.Fingerprint), Date: o.Date, Kind: string(kind)}
}

// toManifest checks what a client sent; its errors are for the client.
func toManifest(m manifest) (*claircore.Manifest, error) {
	if m.Hash == "" || len(m.Layers) == 0 {
		return nil, fmt.Errorf("bogus manifest: it needs a hash and layers")
	}
	d, err := claircore.ParseDigest(m.Hash)
	if err != nil {
		return nil, fmt.Errorf("hash: %w", err)
	}
	out := &claircore.Manifest{Hash: d}
	for i, l := range m.Layers {
		d, err := claircore.ParseDigest(l.Hash)
		if err != nil {
			return nil, fmt.Errorf("layers[%d].hash: %w", i, err)
		}
		out.Layers = append(out.Layers, &claircore.Layer{Hash: d, URI: l.URI, Headers: l.Headers})
	}
	return out, nil
}

// toVulnerability leaves no pointer nil that the engine's query builder would
// follow.
func toVulnerability(v vulnerability) (claircore.Vulnerability, error) {
	out := claircore.Vulnerability{
		ID: v.ID, Updater: v.Updater, Name: v.Name, Description: v.Description, Issued: v.Issued,
		Links: v.Links, Severity: v.Severity, FixedInVersion: v.FixedInVersion,
		Package: &claircore.Package{}, Dist: &claircore.Distribution{}, Repo: &claircore.Repository{},
	}
	var err error
	parse := func(into encoding.TextUnmarshaler, s string) {
		if s != "" && err == nil {
			err = unmarshalText(into, s)
		}
	}
	parse(&out.NormalizedSeverity, v.NormalizedSeverity)
	parse(&out.ArchOperation, v.ArchOp)
	if p := v.Package; p != nil {
		*out.Package = claircore.Package{ID: p.ID, Name: p.Name, Version: p.Version, Module: p.Module, Arch: p.Arch}
		parse(&out.Package.Kind, p.Kind)
		parse(&out.Package.NormalizedVersion, p.NormalizedVersion)
		parse(&out.Package.CPE, p.CPE)
	}
	if d := v.Distribution; d != nil {
		*out.Dist = claircore.Distribution{
			ID: d.ID, DID: d.DID, Name: d.Name, Version: d.Version, VersionCodeName: d.VersionCodeName,
			VersionID: d.VersionID, Arch: d.Arch, PrettyName: d.PrettyName,
		}
		parse(&out.Dist.CPE, d.CPE)
	}
	if r := v.Repository; r != nil {
		*out.Repo = claircore.Repository{ID: r.ID, Name: r.Name, Key: r.Key, URI: r.URI}
		parse(&out.Repo.CPE, r.CPE)
	}
	if v.Range != nil {
		out.Range = &claircore.Range{}
		parse(&out.Range.Lower, v.Range.Lower)
		parse(&out.Range.Upper, v.Range.Upper)
	}
	if err == nil {
		err = noNUL(reflect.ValueOf(v))
	}
	if err != nil {
		return out, fmt.Errorf("vulnerability %.200q: %w", v.ID, err)
	}
	return out, nil
}

// unmarshalText is into.UnmarshalText, with a panic as an error: some of
// claircore's types panic at text that they don't know.
func unmarshalText(into encoding.TextUnmarshaler, s string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%.100q is not a value of %T", s, into)
		}
	}()
	return into.UnmarshalText([]byte(s))
}

// noNUL refuses text with a NUL character, which no row can hold, at any depth
// of a wire type.
func noNUL(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if strings.ContainsRune(v.String(), 0) {
			return errors.New("its text has a NUL character")
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return noNUL(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return nil
		}
		for _, f := range v.Fields() {
			if err := noNUL(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func convertMap[T, U any](m map[string]*T, f func(*T) *U) map[string]*U {
	out := make(map[string]*U, len(m))
	for k, v := range m {
		out[k] = f(v)
	}
	return out
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// text is the text form of a value of the engine, "" if it has none.
func text(m encoding.TextMarshaler) string {
	b, err := m.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}
