package vulnstore

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"
)

// hashKind tells rows whose hash is made here from those of claircore's store.
const hashKind = "tocsin-sha256"

// row is one vulnerability as a row of public.vuln.
type row struct {
	text         []string // by position in texts
	issued       time.Time
	kind         *string // of both bounds; nil for no range
	lower, upper []int32
	notAffected  bool
	aliases      []claircore.Alias // without repeats, sorted
	self         claircore.Alias
}

// texts are the columns of public.vuln that hold text, in the order of a row's.
const texts = `name, updater, description, links, severity, normalized_severity,
  package_name, package_version, package_module, package_arch, package_kind,
  dist_id, dist_name, dist_version, dist_version_code_name, dist_version_id, dist_arch, dist_cpe, dist_pretty_name,
  repo_name, repo_key, repo_uri, fixed_in_version, arch_operation`

// newRow is the row of a vulnerability; false for one without a package, which
// no matcher could ever find.
func newRow(v *claircore.Vulnerability) (*row, bool) {
	if v.Package == nil || v.Package.Name == "" {
		return nil, false
	}
	dist, repo := v.Dist, v.Repo
	if dist == nil {
		dist = &claircore.Distribution{}
	}
	if repo == nil {
		repo = &claircore.Repository{}
	}
	p := v.Package
	r := &row{
		text: []string{
			v.Name, v.Updater, v.Description, v.Links, v.Severity, v.NormalizedSeverity.String(),
			p.Name, p.Version, p.Module, p.Arch, kindText(p),
			dist.DID, dist.Name, dist.Version, dist.VersionCodeName, dist.VersionID, dist.Arch, cpeText(dist), dist.PrettyName,
			repo.Name, repo.Key, repo.URI, v.FixedInVersion, v.ArchOperation.String(),
		},
		issued: v.Issued, notAffected: v.Invert, self: v.Self,
	}
	for i, s := range r.text {
		r.text[i] = clean(s)
	}
	if v.Range != nil {
		r.lower, r.upper = v.Range.Lower.V[:], v.Range.Upper.V[:]
		if v.Range.Lower.Kind == v.Range.Upper.Kind {
			r.kind = &v.Range.Lower.Kind
		}
	}
	for _, a := range v.Aliases {
		if a.Valid() && !slices.Contains(r.aliases, a) {
			r.aliases = append(r.aliases, a)
		}
	}
	slices.SortFunc(r.aliases, func(a, b claircore.Alias) int { return strings.Compare(a.String(), b.String()) })
	if !r.self.Valid() {
		r.self = claircore.Alias{}
	}
	return r, true
}

// hash is of everything that the row says, each field after its length.
func (r *row) hash() []byte {
	h := sha256.New()
	number := func(n int64) { _ = binary.Write(h, binary.BigEndian, n) }
	text := func(s string) {
		number(int64(len(s)))
		h.Write([]byte(s))
	}
	for _, s := range r.text {
		text(s)
	}
	number(r.issued.Unix())
	number(int64(r.issued.Nanosecond()))
	if r.kind != nil {
		text(*r.kind)
	}
	number(int64(len(r.lower)))
	for _, bound := range [][]int32{r.lower, r.upper} {
		for _, n := range bound {
			number(int64(n))
		}
	}
	if r.notAffected {
		number(1)
	}
	for _, a := range append(slices.Clone(r.aliases), r.self) {
		if a.Valid() {
			text(a.Space.Value())
			text(a.Name)
		}
	}
	number(int64(len(r.aliases)))
	return h.Sum(nil)
}

// kindText is a package's kind as claircore's tables hold it.
func kindText(p *claircore.Package) string {
	if p.Kind == types.UnknownPackage {
		return ""
	}
	return p.Kind.String()
}

func cpeText(d *claircore.Distribution) string {
	b, err := d.CPE.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}

// clean makes text that PostgreSQL can hold.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
