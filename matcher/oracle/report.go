package oracle

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"
)

// catalogue gives packages, distributions and repositories the ids claircore's
// store would: one for each distinct content, the same in every report.
type catalogue struct {
	gen      *gen
	next     int
	packages map[packageContent]*claircore.Package
	others   map[string]string
}

// packageContent is what claircore tells packages apart by.
type packageContent struct {
	name, version, module, arch string
	kind                        types.PackageKind
}

func newCatalogue(g *gen) *catalogue {
	return &catalogue{gen: g, packages: map[packageContent]*claircore.Package{}, others: map[string]string{}}
}

func (c *catalogue) id() string {
	c.next++
	return strconv.Itoa(c.next)
}

// pkg returns the package as it was first recorded, which is how claircore's
// store comes to keep the first normalized version.
func (c *catalogue) pkg(p claircore.Package) claircore.Package {
	k := packageContent{p.Name, p.Version, p.Module, p.Arch, p.Kind}
	known, ok := c.packages[k]
	if !ok {
		p.ID = c.id()
		known = &p
		c.packages[k] = known
	}
	return *known
}

func (c *catalogue) other(content string) string {
	id, ok := c.others[content]
	if !ok {
		id = c.id()
		c.others[content] = id
	}
	return id
}

// report lays out what is installed as a finished index report of a manifest.
func (c *catalogue) report(manifest claircore.Digest, contents []installed) *claircore.IndexReport {
	r := &claircore.IndexReport{
		Hash:          manifest,
		State:         "IndexFinished",
		Packages:      map[string]*claircore.Package{},
		Distributions: map[string]*claircore.Distribution{},
		Repositories:  map[string]*claircore.Repository{},
		Environments:  map[string][]*claircore.Environment{},
		Success:       true,
	}
	for _, it := range contents {
		p, src := c.pkg(it.pkg), c.pkg(it.src)
		p.Source = &src
		if _, ok := r.Packages[p.ID]; !ok {
			r.Packages[p.ID] = &p
		}
		env := &claircore.Environment{PackageDB: "var/lib/db", IntroducedIn: digest(c.gen.tag, "layer")}
		if it.dist != nil {
			d := *it.dist
			d.ID = c.other(fmt.Sprintf("dist %+v", *it.dist))
			r.Distributions[d.ID] = &d
			env.DistributionID = d.ID
		}
		for _, repo := range it.repos {
			var id string
			if repo != nil {
				d := *repo
				d.ID = c.other(fmt.Sprintf("repo %q %q %q", repo.Name, repo.Key, repo.URI))
				r.Repositories[d.ID] = &d
				id = d.ID
			}
			env.RepositoryIDs = append(env.RepositoryIDs, id)
		}
		r.Environments[p.ID] = append(r.Environments[p.ID], env)
	}
	return r
}

func digest(parts ...string) claircore.Digest {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q", p)
	}
	return claircore.MustParseDigest(fmt.Sprintf("sha256:%x", h.Sum(nil)))
}

// contents lists a report's packages in their surroundings, one a line.
func contents(r *claircore.IndexReport) string {
	var lines []string
	for _, rec := range r.IndexRecords() {
		p := rec.Package
		s := fmt.Sprintf("    %s %s %s", p.Kind, p.Name, p.Version)
		if p.Arch != "" {
			s += " " + p.Arch
		}
		if p.Module != "" {
			s += " module " + p.Module
		}
		if p.NormalizedVersion.Kind != "" {
			s += fmt.Sprintf(" (%s %s)", p.NormalizedVersion.Kind, p.NormalizedVersion.String())
		}
		if p.Source.Name != "" {
			s += fmt.Sprintf(" of %s %s %s", p.Source.Kind, p.Source.Name, p.Source.Version)
		}
		if d := rec.Distribution; d != nil {
			s += fmt.Sprintf(" in %s %s", d.DID, d.VersionID)
		}
		if repo := rec.Repository; repo != nil {
			s += fmt.Sprintf(" from %s %s", repo.Name, repo.URI)
		}
		lines = append(lines, s+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
