package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"
)

const (
	names    = 5_000
	versions = 3
	known    = 20_000
	updater  = "debian/updater"
	layers   = 5 // four of them shared by all manifests
)

// version j of every package. Their order as text is their order as Debian
// versions, so that SQL can judge them: no part grows a second digit.
func version(j int) string { return fmt.Sprintf("1.0-%d", j+1) }

func packageName(i int) string { return fmt.Sprintf("pkg%04d", i) }

// debian is the one distribution, as claircore's scanner describes it.
var debian = claircore.Distribution{
	DID: "debian", Name: "Debian GNU/Linux", Version: "12 (bookworm)", VersionID: "12",
	VersionCodeName: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)",
}

// data is what the database is filled with.
type data struct {
	manifests int
	// holds has, for every manifest, the packages it holds: name*versions+version.
	holds [][]int32
	// before and added are the vulnerabilities of the two update operations.
	before, added []vulnerability
}

type vulnerability struct {
	name, severity string
	normalized     claircore.Severity
	pkg            int
	fixed          string
}

func newData(o options) *data {
	r := rand.New(rand.NewPCG(o.seed, 0xaffec7ed))
	d := &data{manifests: o.manifests, holds: make([][]int32, o.manifests)}
	for i := range d.holds {
		d.holds[i] = make([]int32, 0, 224)
	}
	for i := range names {
		// Skipping ahead by geometric steps visits each manifest with
		// probability p without drawing for the others.
		p := min(0.6, 176.8*math.Pow(float64(i+1), -1.25))
		skip := func() int { return int(math.Log(1-r.Float64()) / math.Log(1-p)) }
		for m := skip(); m < o.manifests; m += 1 + skip() {
			d.holds[m] = append(d.holds[m], int32(i*versions+r.IntN(versions)))
		}
	}
	d.before = vulnerabilities(r, 0, known)
	d.added = vulnerabilities(r, known, o.vulns)
	return d
}

var severities = []struct {
	name       string
	normalized claircore.Severity
}{
	{"unimportant", claircore.Negligible}, {"low", claircore.Low}, {"medium", claircore.Medium}, {"high", claircore.High},
}

// vulnerabilities draws n of them, each on a name drawn uniformly: half have no
// fix, three in ten are fixed after every version in use, the rest are fixed in
// one of them.
func vulnerabilities(r *rand.Rand, from, n int) []vulnerability {
	out := make([]vulnerability, n)
	for i := range out {
		s := severities[r.IntN(len(severities))]
		v := vulnerability{
			name: fmt.Sprintf("CVE-2026-%06d", from+i), severity: s.name, normalized: s.normalized, pkg: r.IntN(names),
		}
		switch k := r.IntN(10); {
		case k < 5:
		case k < 8:
			v.fixed = "9.0-1"
		default:
			v.fixed = version(1 + r.IntN(versions-1))
		}
		out[i] = v
	}
	return out
}

// everything is an index report of one image that holds every version of every
// package, from which the engine makes the occurrences that all manifests share.
func everything() *claircore.IndexReport {
	dist := debian
	dist.ID = "1"
	r := &claircore.IndexReport{
		Hash: claircore.MustParseDigest(digest("manifest", 0)), State: "IndexFinished", Success: true,
		Packages:      make(map[string]*claircore.Package, names*versions),
		Environments:  make(map[string][]*claircore.Environment, names*versions),
		Distributions: map[string]*claircore.Distribution{dist.ID: &dist},
	}
	env := []*claircore.Environment{{PackageDB: "var/lib/dpkg/status", DistributionID: dist.ID, IntroducedIn: claircore.MustParseDigest(digest("layer", 0))}}
	for i := range names {
		for j := range versions {
			id := fmt.Sprint(i*versions + j + 1)
			r.Packages[id] = &claircore.Package{
				ID: id, Name: packageName(i), Version: version(j), Kind: types.BinaryPackage, Arch: "amd64",
				Source: &claircore.Package{ID: "s" + id, Name: packageName(i), Version: version(j), Kind: types.SourcePackage},
			}
			r.Environments[id] = env
		}
	}
	return r
}

// digest makes the digest of a numbered thing; it looks like any other.
func digest(what string, i int) string {
	r := rand.New(rand.NewPCG(uint64(i), uint64(len(what))))
	return fmt.Sprintf("sha256:%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
}
