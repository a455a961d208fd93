package clair_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/pkg/tarfs"
	"github.com/quay/claircore/toolkit/types"
	"github.com/quay/claircore/toolkit/types/cpe"

	"tocsin.dev/tocsin/internal/clair"
)

const state = "0123456789abcdef0123456789abcdef"

var (
	known   = claircore.MustParseDigest("sha256:aa00000000000000000000000000000000000000000000000000000000000000")
	unknown = claircore.MustParseDigest("sha256:bb00000000000000000000000000000000000000000000000000000000000000")
	notTar  = claircore.MustParseDigest("sha256:cc00000000000000000000000000000000000000000000000000000000000000")
	broken  = claircore.MustParseDigest("sha256:dd00000000000000000000000000000000000000000000000000000000000000")
	layer   = claircore.MustParseDigest("sha256:ee00000000000000000000000000000000000000000000000000000000000000")

	refOld = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	refNew = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	notice = uuid.MustParse("33333333-3333-4333-8333-333333333333")
)

// fixed answers always the same: what is under test is the wire, not the
// engine.
type fixed struct {
	indexing chan struct{} // when not nil, Index waits for it
	began    chan struct{}
	ready    bool
	deleted  sync.Map
	asked    []claircore.Vulnerability
}

func pkgs() map[string]*claircore.Package {
	return map[string]*claircore.Package{"1": {
		ID: "1", Name: "openssl", Version: "1.1.1n-0+deb11u3", Kind: types.BinaryPackage, Arch: "amd64",
		Source:            &claircore.Package{ID: "2", Name: "openssl", Version: "1.1.1n-0+deb11u3", Kind: types.SourcePackage},
		NormalizedVersion: claircore.Version{Kind: "semver", V: [10]int32{0, 1, 1, 1}},
		PackageDB:         "var/lib/dpkg/status", Filepath: "usr/bin/openssl",
		Detector: &claircore.Detector{Name: "dpkg", Version: "6", Kind: "package"},
	}}
}

func dists() map[string]*claircore.Distribution {
	return map[string]*claircore.Distribution{"1": {
		ID: "1", DID: "debian", Name: "Debian GNU/Linux", Version: "11 (bullseye)", VersionCodeName: "bullseye",
		VersionID: "11", PrettyName: "Debian GNU/Linux 11 (bullseye)", CPE: cpe.MustUnbind("cpe:/o:debian:debian_linux:11"),
	}}
}

func envs() map[string][]*claircore.Environment {
	return map[string][]*claircore.Environment{"1": {{PackageDB: "var/lib/dpkg/status", IntroducedIn: layer, DistributionID: "1"}}}
}

func vuln(id string, s claircore.Severity) *claircore.Vulnerability {
	return &claircore.Vulnerability{
		ID: id, Updater: "debian/updater", Name: "CVE-2023-" + id, Description: "A flaw <b>&</b> a fix.",
		Issued: time.Date(2023, 2, 7, 0, 0, 0, 0, time.UTC), Links: "https://a.example/1 https://b.example/2",
		Severity: "unimportant", NormalizedSeverity: s, FixedInVersion: "1.1.1n-0+deb11u4",
		Package: &claircore.Package{Name: "openssl", Kind: types.SourcePackage}, Dist: dists()["1"],
		Repo:          &claircore.Repository{},
		Range:         &claircore.Range{Upper: claircore.Version{Kind: "semver", V: [10]int32{0, 1, 1, 2}}},
		ArchOperation: claircore.OpEquals,
		Self:          claircore.Alias{Name: "CVE-2023-" + id}, Aliases: []claircore.Alias{{Name: "x"}},
	}
}

func (f *fixed) Index(ctx context.Context, m *claircore.Manifest) (*claircore.IndexReport, error) {
	if f.indexing != nil {
		f.began <- struct{}{}
		<-f.indexing
	}
	switch m.Hash.String() {
	case notTar.String():
		return nil, fmt.Errorf("opening layer: %w", tarfs.ErrFormat)
	case unknown.String():
		return nil, fmt.Errorf("layers[0].uri: is a file: %w", clair.ErrBadManifest)
	case broken.String():
		return nil, errors.New("fetching layer: 404 Not Found")
	}
	r, _, err := f.IndexReport(ctx, known)
	return r, err
}

func (f *fixed) State(context.Context) (string, error) { return state, nil }

func (f *fixed) IndexReport(_ context.Context, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	if d.String() != known.String() {
		return nil, false, nil
	}
	return &claircore.IndexReport{
		Hash: known, State: "IndexFinished", Packages: pkgs(), Distributions: dists(), Environments: envs(), Success: true,
	}, true, nil
}

func (f *fixed) DeleteManifests(_ context.Context, ds ...claircore.Digest) ([]claircore.Digest, error) {
	return slices.DeleteFunc(ds, func(d claircore.Digest) bool { return d.String() != known.String() }), nil
}

func (f *fixed) AffectedManifests(_ context.Context, vs []claircore.Vulnerability) (*claircore.AffectedManifests, error) {
	f.asked = vs
	out := claircore.NewAffectedManifests()
	out.Add(vuln("1", claircore.Low), known)
	out.Add(vuln("2", claircore.Critical), known)
	return &out, nil
}

func (f *fixed) Scan(_ context.Context, ir *claircore.IndexReport) (*claircore.VulnerabilityReport, error) {
	not := vuln("9", claircore.High)
	not.Invert = true
	return &claircore.VulnerabilityReport{
		Hash: ir.Hash, Packages: ir.Packages, Distributions: ir.Distributions, Environments: ir.Environments,
		Vulnerabilities:        map[string]*claircore.Vulnerability{"1": vuln("1", claircore.High), "9": not},
		PackageVulnerabilities: map[string][]string{"1": {"1"}},
		PackageNotVulnerable:   map[string][]string{"1": {"9"}},
		Enrichments:            map[string][]json.RawMessage{"message/vnd.clair.map.vulnerability": {json.RawMessage(`{"1":[{"score":9.8}]}`)}},
	}, nil
}

func (f *fixed) Initialized(context.Context) (bool, error) { return f.ready, nil }

func op(ref uuid.UUID, kind driver.UpdateKind) driver.UpdateOperation {
	return driver.UpdateOperation{Ref: ref, Updater: "debian/updater", Fingerprint: "f", Kind: kind, Date: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
}

func (f *fixed) UpdateOperations(_ context.Context, k driver.UpdateKind, _ ...string) (map[string][]driver.UpdateOperation, error) {
	return map[string][]driver.UpdateOperation{"debian/updater": {op(refNew, k), op(refOld, k)}}, nil
}

// LatestUpdateOperations leaves the kind out, as the engine does.
func (f *fixed) LatestUpdateOperations(context.Context, driver.UpdateKind) (map[string][]driver.UpdateOperation, error) {
	return map[string][]driver.UpdateOperation{"debian/updater": {op(refNew, "")}}, nil
}

func (f *fixed) LatestUpdateOperation(context.Context, driver.UpdateKind) (uuid.UUID, error) {
	return refNew, nil
}

func (f *fixed) DeleteUpdateOperations(_ context.Context, refs ...uuid.UUID) (int64, error) {
	if refs[0] == refNew {
		return 0, fmt.Errorf("update operation %s: %w", refs[0], clair.ErrInUse)
	}
	return int64(len(refs)), nil
}

func (f *fixed) UpdateDiff(_ context.Context, prev, cur uuid.UUID) (*driver.UpdateDiff, error) {
	return &driver.UpdateDiff{Prev: op(prev, ""), Cur: op(cur, ""), Added: []claircore.Vulnerability{*vuln("1", claircore.High)}}, nil
}

func notes() []clair.Notification {
	out := make([]clair.Notification, 3)
	for i := range out {
		out[i] = clair.Notification{
			ID: uuid.MustParse(fmt.Sprintf("44444444-4444-4444-8444-00000000000%d", i+1)), Manifest: known.String(), Reason: "added",
			Vulnerability: clair.VulnerabilitySummary{
				Name: "CVE-2023-1", Description: "A flaw.", Severity: "High", NormalizedSeverity: "High", FixedInVersion: "2", Links: "https://a.example/1",
				Package: &clair.SummaryPackage{Name: "openssl", Version: "1"},
			},
		}
	}
	return out
}

func (f *fixed) Page(_ context.Context, id, after uuid.UUID, limit int) ([]clair.Notification, bool, error) {
	if id != notice {
		return nil, false, nil
	}
	all := notes()
	i, _ := slices.BinarySearchFunc(all, after, func(n clair.Notification, id uuid.UUID) int {
		if n.ID.String() <= id.String() {
			return -1
		}
		return 1
	})
	return all[i:min(len(all), i+limit)], i+limit < len(all), nil
}

func (f *fixed) Delete(_ context.Context, _ string, id uuid.UUID) error {
	if _, gone := f.deleted.LoadOrStore(id, true); gone || id != notice {
		return clair.ErrNotFound
	}
	return nil
}

func newFixed(t *testing.T) *fixed {
	t.Helper()
	return &fixed{ready: true}
}
