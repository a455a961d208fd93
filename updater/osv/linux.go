package osv

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/toolkit/types"
)

// A distribution is one that OSV's bucket has advisories for and claircore has
// no updater. Its packages are judged by the matcher tocsin-linux.
type distribution struct {
	updater string
	name    string // of the ecosystem, in the bucket and in advisories
	did     string // in os-release
	title   string
	// kind says whether advisories name source packages or binary ones.
	kind types.PackageKind
	// rolling has no releases.
	rolling bool
}

var distributions = []*distribution{
	{updater: "osv/almalinux", name: "AlmaLinux", did: "almalinux", title: "AlmaLinux", kind: types.BinaryPackage},
	{updater: "osv/chainguard", name: "Chainguard", did: "chainguard", title: "Chainguard", kind: types.BinaryPackage, rolling: true},
	{updater: "osv/openeuler", name: "openEuler", did: "openEuler", title: "openEuler", kind: types.SourcePackage},
	{updater: "osv/rocky-linux", name: "Rocky Linux", did: "rocky", title: "Rocky Linux", kind: types.SourcePackage},
	{updater: "osv/wolfi", name: "Wolfi", did: "wolfi", title: "Wolfi", kind: types.BinaryPackage, rolling: true},
}

// of is the distribution's release, as images are found to be of it.
func (d *distribution) of(release string) *claircore.Distribution {
	if d.rolling {
		release = ""
	}
	return &claircore.Distribution{DID: d.did, Name: d.title, VersionID: release, PrettyName: strings.TrimSpace(d.title + " " + release)}
}

// bucket is where OSV's data are, of the configuration that claircore's factory
// takes.
type bucket struct {
	root   *url.URL
	client *http.Client
	allow  []string
	list   bytes.Buffer // the list of ecosystems as it was fetched
}

func (b *bucket) configure(c driver.ConfigUnmarshaler, client *http.Client, standard string) error {
	var cfg struct {
		URL       string   `json:"url" yaml:"url"`
		Allowlist []string `json:"allowlist" yaml:"allowlist"`
	}
	if err := c(&cfg); err != nil {
		return err
	}
	if cfg.URL == "" {
		cfg.URL = standard
	}
	root, err := url.Parse(cfg.URL)
	if err != nil {
		return fmt.Errorf("osv: url: %w", err)
	}
	b.root, b.client, b.allow = root, client, cfg.Allowlist
	return nil
}

// maxList is how many bytes of the list of ecosystems are looked at.
const maxList = 1 << 20

// overhearing returns a client that keeps the list of ecosystems that is fetched
// with it: one request serves claircore's factory and this package.
func (b *bucket) overhearing(client *http.Client) *http.Client {
	c := *client
	next := client.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	c.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(req)
		if err == nil && res.StatusCode == http.StatusOK && strings.HasSuffix(req.URL.Path, "/ecosystems.txt") {
			b.list.Reset()
			res.Body = &tee{res.Body, &b.list}
		}
		return res, err
	})
	return &c
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// tee copies what is read to a buffer, up to maxList bytes.
type tee struct {
	io.ReadCloser
	to *bytes.Buffer
}

// Read implements [io.Reader].
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if t.to.Len()+n <= maxList {
		t.to.Write(p[:n])
	}
	return n, err
}

// distributions are the updaters of those that the bucket has, by the list that
// was fetched.
func (b *bucket) distributions() []driver.Updater {
	var has []string
	for line := range strings.Lines(b.list.String()) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		has = append(has, name)
	}
	var out []driver.Updater
	for _, d := range distributions {
		is := func(name string) bool { return strings.EqualFold(name, d.name) }
		if slices.ContainsFunc(has, is) && (len(b.allow) == 0 || slices.ContainsFunc(b.allow, is)) {
			out = append(out, &linux{distribution: d, from: b.root.JoinPath(d.name, "all.zip"), client: b.client})
		}
	}
	return out
}

// linux is the updater of one distribution.
type linux struct {
	distribution *distribution
	from         *url.URL
	client       *http.Client
}

var (
	_ driver.Updater      = (*linux)(nil)
	_ driver.Configurable = (*linux)(nil)
)

// Name implements [driver.Updater].
func (l *linux) Name() string { return l.distribution.updater }

// Configure implements [driver.Configurable].
func (l *linux) Configure(_ context.Context, c driver.ConfigUnmarshaler, client *http.Client) error {
	var cfg struct {
		URL string `json:"url" yaml:"url"`
	}
	if err := c(&cfg); err != nil {
		return err
	}
	if cfg.URL != "" {
		from, err := url.Parse(cfg.URL)
		if err != nil {
			return fmt.Errorf("%s: url: %w", l.Name(), err)
		}
		l.from = from
	}
	l.client = client
	return nil
}

// Fetch implements [driver.Fetcher]. What it returns is an archive of one
// archive, as claircore's are, in a file without a name.
func (l *linux) Fetch(ctx context.Context, last driver.Fingerprint) (_ io.ReadCloser, _ driver.Fingerprint, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.from.String(), nil)
	if err != nil {
		return nil, last, fmt.Errorf("osv: %w", err)
	}
	req.Header.Set("Accept", "application/zip")
	if etag, ok := strings.CutPrefix(string(last), version); ok && etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	res, err := l.client.Do(req)
	if err != nil {
		return nil, last, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, last, driver.Unchanged
	default:
		return nil, last, fmt.Errorf("osv: %s answered %s", l.from.Redacted(), res.Status)
	}
	out, err := os.CreateTemp("", "tocsin-osv-")
	if err != nil {
		return nil, last, err
	}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if err := os.Remove(out.Name()); err != nil {
		return nil, last, err
	}
	w := zip.NewWriter(out)
	inner, err := w.CreateHeader(&zip.FileHeader{Name: l.distribution.did + ".zip", Method: zip.Store})
	if err != nil {
		return nil, last, err
	}
	if _, err := io.Copy(inner, res.Body); err != nil {
		return nil, last, err
	}
	if err := w.Close(); err != nil {
		return nil, last, err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return nil, last, err
	}
	return out, driver.Fingerprint(version + res.Header.Get("ETag")), nil
}

// Parse implements [driver.Parser]. Advisories are not merged by their ids: one
// of a distribution is about many vulnerabilities.
func (l *linux) Parse(ctx context.Context, contents io.ReadCloser) ([]*claircore.Vulnerability, error) {
	advisories, err := read(ctx, contents)
	if err != nil {
		return nil, err
	}
	var out []*claircore.Vulnerability
	for _, a := range advisories {
		out = append(out, a.releases(l.distribution)...)
	}
	return out, nil
}

// releases are the vulnerabilities that the advisory speaks of in a
// distribution's packages, one for each stretch of versions in each release.
func (a *advisory) releases(d *distribution) []*claircore.Vulnerability {
	a.also = append(a.also, a.Upstream...)
	proto := a.proto(&ecosystem{updater: d.updater})
	var out []*claircore.Vulnerability
	for i := range a.Affected {
		af := &a.Affected[i]
		base, release, _ := strings.Cut(af.Package.Ecosystem, ":")
		if !strings.EqualFold(base, d.name) || af.Package.Name == "" {
			continue
		}
		for _, r := range af.stretches() {
			if r.Fixed == "0" {
				continue // never affected
			}
			v := proto
			if v.NormalizedSeverity == claircore.Unknown && v.Severity == "" {
				rate(&v, af.Severity, nil)
			}
			v.Dist = d.of(release)
			v.Package = &claircore.Package{Name: af.Package.Name, Kind: d.kind}
			v.FixedInVersion = r.Fixed
			if r.Introduced != "" || r.LastAffected != "" || len(r.Versions) > 0 {
				v.Package.Version = r.Encode()
			}
			out = append(out, &v)
		}
	}
	return out
}
