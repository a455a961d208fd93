// Package osv reads OSV's advisories for the ecosystems whose packages claircore
// finds in images: Go, npm, PyPI, Maven and RubyGems. Fetching, and the other
// ecosystems, stay claircore's; but for distributions that claircore leaves out,
// AlmaLinux, Chainguard, openEuler, Rocky Linux and Wolfi, which are read here.
//
// It differs from claircore's parser in this:
//
//   - Only what an advisory has about the ecosystem's own packages counts. claircore takes
//     the versions of another ecosystem's package of the same name along.
//   - Bounds of Go and npm are kept exactly (package osvrange), so that fixes at
//     pseudo-versions and pre-releases are not lost.
//   - An advisory that lists versions and has no usable range counts for those
//     versions; claircore drops it.
//   - PyPI's names are normalized as PEP 503 has it.
//   - Advisories of several publishers that are one vulnerability by their
//     aliases become one, with the others' ids as aliases.
//   - A malformed alias is left out; claircore drops the advisory.
//
// Rows stay such that claircore's own matchers, given them by an export, judge
// them as they judge its own.
package osv

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	upstream "github.com/quay/claircore/updater/osv"
)

// Factory makes claircore's updaters, with this package's parser where there is
// one for the ecosystem, and this package's own for distributions that claircore
// leaves out.
type Factory struct {
	inner  upstream.Factory
	bucket bucket
}

var (
	_ driver.UpdaterSetFactory = (*Factory)(nil)
	_ driver.Configurable      = (*Factory)(nil)
)

// Configure implements [driver.Configurable].
func (f *Factory) Configure(ctx context.Context, c driver.ConfigUnmarshaler, client *http.Client) error {
	if err := f.bucket.configure(c, client, upstream.DefaultURL); err != nil {
		return err
	}
	return f.inner.Configure(ctx, c, f.bucket.overhearing(client))
}

// UpdaterSet implements [driver.UpdaterSetFactory].
func (f *Factory) UpdaterSet(ctx context.Context) (driver.UpdaterSet, error) {
	theirs, err := f.inner.UpdaterSet(ctx)
	if err != nil {
		return theirs, err
	}
	set := driver.NewUpdaterSet()
	own := f.bucket.distributions()
	for _, u := range own {
		if err := set.Add(u); err != nil {
			return set, err
		}
	}
	for _, u := range theirs.Updaters() {
		if slices.ContainsFunc(own, func(o driver.Updater) bool { return o.Name() == u.Name() }) {
			continue
		}
		if eco := ecosystemOf(u.Name()); eco != nil {
			u = &feed{Updater: u, ecosystem: eco}
		}
		if err := set.Add(u); err != nil {
			return set, err
		}
	}
	return set, nil
}

// An ecosystem is one of those that this package parses.
type ecosystem struct {
	updater string // of claircore's
	name    string // in advisories
	uri     string // of its repository
	// semantic versions are kept exactly; the others as claircore encodes them.
	semantic bool
	// rename makes a package's name the one that images are asked for.
	rename func(string) string
}

var ecosystems = []*ecosystem{
	{updater: "osv/go", name: "Go", uri: "https://pkg.go.dev/", semantic: true},
	{updater: "osv/npm", name: "npm", uri: "https://www.npmjs.com/", semantic: true},
	{updater: "osv/pypi", name: "PyPI", uri: "https://pypi.org/", rename: NormalizePyPI},
	{updater: "osv/maven", name: "Maven", uri: "https://repo1.maven.apache.org/maven2"},
	{updater: "osv/rubygems", name: "RubyGems", uri: "https://rubygems.org/gems/"},
}

func ecosystemOf(updater string) *ecosystem {
	i := slices.IndexFunc(ecosystems, func(e *ecosystem) bool { return e.updater == updater })
	if i < 0 {
		return nil
	}
	return ecosystems[i]
}

// repository is the name of the ecosystem's repository in claircore's rows.
func (e *ecosystem) repository() string { return strings.TrimPrefix(e.updater, "osv/") }

// A feed is one updater of claircore's with this package's parser.
type feed struct {
	driver.Updater
	ecosystem *ecosystem
}

// version begins the fingerprints of what was read by this parser, so that what
// another one read is fetched again. It changes when the parser's rows do.
const version = "tocsin-1 "

// Configure implements [driver.Configurable].
func (f *feed) Configure(ctx context.Context, c driver.ConfigUnmarshaler, client *http.Client) error {
	if inner, ok := f.Updater.(driver.Configurable); ok {
		return inner.Configure(ctx, c, client)
	}
	return nil
}

// Fetch implements [driver.Fetcher].
func (f *feed) Fetch(ctx context.Context, last driver.Fingerprint) (io.ReadCloser, driver.Fingerprint, error) {
	etag, ok := strings.CutPrefix(string(last), version)
	if !ok {
		etag = ""
	}
	contents, fp, err := f.Updater.Fetch(ctx, driver.Fingerprint(etag))
	if fp != "" {
		fp = version + fp
	}
	return contents, fp, err
}

// Parse implements [driver.Parser].
func (f *feed) Parse(ctx context.Context, contents io.ReadCloser) ([]*claircore.Vulnerability, error) {
	advisories, err := read(ctx, contents)
	if err != nil {
		return nil, err
	}
	merge(advisories)
	var out []*claircore.Vulnerability
	for _, a := range advisories {
		out = append(out, a.rows(f.ecosystem)...)
	}
	return out, nil
}
