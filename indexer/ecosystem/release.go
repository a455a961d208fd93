package ecosystem

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/aws"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/oracle"
	"github.com/quay/claircore/osrelease"
	"github.com/quay/claircore/photon"
	"github.com/quay/claircore/rhel"
	"github.com/quay/claircore/suse"
)

// releaseFiles are where a system says what it is, the first that is there in
// force.
var releaseFiles = []string{osrelease.Path, osrelease.FallbackPath}

// olderFiles say it where there is no os-release.
var olderFiles = []string{"etc/lsb-release", "etc/issue", "etc/SuSE-release", "etc/photon-release"}

// maxRelease is how many bytes of such a file are read.
const maxRelease = 64 << 10

// Release is the scanner of distributions. It calls them what claircore's
// updaters call them, whatever of os-release their images change; a
// distribution that claircore knows nothing of is reported too, by its own
// words, so that its packages count as packages that no feed speaks of.
type Release struct{}

var _ indexer.DistributionScanner = Release{}

// Name implements [indexer.VersionedScanner].
func (Release) Name() string { return "tocsin-release" }

// Version implements [indexer.VersionedScanner].
func (Release) Version() string { return "2" }

// Kind implements [indexer.VersionedScanner].
func (Release) Kind() string { return "distribution" }

// Scan implements [indexer.DistributionScanner].
func (Release) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Distribution, error) {
	sys, err := l.FS()
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	files := map[string][]byte{}
	for _, p := range releaseFiles {
		if b, ok := readRelease(sys, p); ok {
			files[osrelease.Path] = b
			break
		}
	}
	for _, p := range olderFiles {
		if b, ok := readRelease(sys, p); ok {
			files[p] = b
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	d, err := distributionOf(ctx, files)
	if d == nil || err != nil {
		return nil, err
	}
	return []*claircore.Distribution{d}, nil
}

func readRelease(sys fs.FS, name string) ([]byte, bool) {
	f, err := sys.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRelease))
	return b, err == nil
}

func distributionOf(ctx context.Context, files map[string][]byte) (*claircore.Distribution, error) {
	release, err := osrelease.Parse(ctx, bytes.NewReader(files[osrelease.Path]))
	if err != nil {
		release = parseLoosely(files[osrelease.Path])
	}
	switch id := release["ID"]; {
	case id == "debian":
		return debian(release), nil
	case id == "alpine":
		return alpine(release), nil
	case id == "ubuntu":
		return ubuntu(release["VERSION_ID"], release["VERSION_CODENAME"], release), nil
	case id == "rocky", id == "almalinux":
		return ofOSV(release, leadingNumber.FindString(release["VERSION_ID"])), nil
	case id == "wolfi", id == "chainguard":
		return ofOSV(release, ""), nil
	case id == "openEuler":
		v := release["VERSION_ID"]
		if m := inParentheses.FindStringSubmatch(release["VERSION"]); m != nil {
			v += "-" + m[1]
		}
		return ofOSV(release, v), nil
	case id == "":
		if d := older(files); d != nil {
			return d, nil
		}
	}
	d, isRedHat, err := claircoreKnows(ctx, files)
	if d != nil || isRedHat || err != nil {
		return d, err
	}
	return itself(release), nil
}

// parseLoosely reads the lines of an os-release file that are well-formed.
func parseLoosely(b []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[strings.TrimSpace(k)] = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return out
}

var (
	leadingNumber  = regexp.MustCompile(`^\d+`)
	leadingNumbers = regexp.MustCompile(`^\d+\.\d+`)
	inParentheses  = regexp.MustCompile(`\(([\w -]+)\)\s*$`)
	alpineIssue    = regexp.MustCompile(`Alpine Linux (\d+\.\d+)(\S* \(edge\))?`)
)

// debian is a release of Debian as its security tracker's data has it. Testing
// and unstable have no number, which no data matches.
func debian(r map[string]string) *claircore.Distribution {
	name := r["VERSION_CODENAME"]
	if m := inParentheses.FindStringSubmatch(r["VERSION"]); name == "" && m != nil {
		name = m[1]
	}
	number := leadingNumber.FindString(r["VERSION_ID"])
	if number == "" || name == "" {
		return itself(r)
	}
	return &claircore.Distribution{
		Name: "Debian GNU/Linux", DID: "debian", VersionID: number, VersionCodeName: name,
		Version: fmt.Sprintf("%s (%s)", number, name), PrettyName: fmt.Sprintf("Debian GNU/Linux %s (%s)", number, name),
	}
}

// alpine is a release of Alpine as its security database has it.
func alpine(r map[string]string) *claircore.Distribution {
	v := leadingNumbers.FindString(r["VERSION_ID"])
	if strings.Contains(r["PRETTY_NAME"], "edge") || strings.Contains(r["VERSION_ID"], "_alpha") {
		v = "edge"
	}
	if v == "" {
		return itself(r)
	}
	return alpineRelease(v)
}

func alpineRelease(v string) *claircore.Distribution {
	pretty := "Alpine Linux v" + v
	if v == "edge" {
		pretty = "Alpine Linux edge"
	}
	return &claircore.Distribution{Name: "Alpine Linux", DID: "alpine", Version: v, PrettyName: pretty}
}

// ubuntu is a release of Ubuntu as its OVAL data has it.
func ubuntu(number, name string, r map[string]string) *claircore.Distribution {
	number = leadingNumbers.FindString(number)
	if m := inParentheses.FindStringSubmatch(r["VERSION"]); name == "" && m != nil {
		name = strings.ToLower(strings.Fields(m[1])[0])
	}
	if number == "" || name == "" {
		return itself(r)
	}
	return &claircore.Distribution{
		Name: "Ubuntu", DID: "ubuntu", VersionID: number, VersionCodeName: name, PrettyName: "Ubuntu " + number,
		Version: fmt.Sprintf("%s (%s)", number, strings.ToUpper(name[:1])+name[1:]),
	}
}

// titles are what distributions are called whose advisories come from OSV.
var titles = map[string]string{
	"almalinux": "AlmaLinux", "chainguard": "Chainguard", "openEuler": "openEuler", "rocky": "Rocky Linux", "wolfi": "Wolfi",
}

// ofOSV is a distribution as OSV's advisories have it: by its release, or
// without one.
func ofOSV(r map[string]string, release string) *claircore.Distribution {
	title := titles[r["ID"]]
	release = text(release)
	return &claircore.Distribution{DID: r["ID"], Name: title, VersionID: release, PrettyName: strings.TrimSpace(title + " " + release)}
}

// older reads what a system without os-release says of itself.
func older(files map[string][]byte) *claircore.Distribution {
	lsb := parseLoosely(files["etc/lsb-release"])
	if strings.EqualFold(lsb["DISTRIB_ID"], "ubuntu") {
		return ubuntu(lsb["DISTRIB_RELEASE"], lsb["DISTRIB_CODENAME"], map[string]string{"ID": "ubuntu"})
	}
	if m := alpineIssue.FindSubmatch(files["etc/issue"]); m != nil {
		if len(m[2]) > 0 {
			return alpineRelease("edge")
		}
		return alpineRelease(string(m[1]))
	}
	return nil
}

// claircoreKnows asks claircore's own scanners of distributions, over a layer
// that has nothing but the release files. Red Hat's own are for its own
// ecosystem to report.
func claircoreKnows(ctx context.Context, files map[string][]byte) (d *claircore.Distribution, isRedHat bool, err error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, b := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o644}); err != nil {
			return nil, false, err
		}
		if _, err := w.Write(b); err != nil {
			return nil, false, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, false, err
	}
	var l claircore.Layer
	desc := claircore.LayerDescription{
		Digest: "sha256:" + strings.Repeat("0", 64), MediaType: "application/vnd.oci.image.layer.v1.tar",
	}
	if err := l.Init(ctx, &desc, bytes.NewReader(buf.Bytes())); err != nil {
		return nil, false, err
	}
	defer l.Close()
	if ds, err := new(rhel.DistributionScanner).Scan(ctx, &l); err != nil || len(ds) > 0 {
		return nil, true, err
	}
	for _, s := range []indexer.DistributionScanner{
		new(aws.DistributionScanner), new(oracle.DistributionScanner), new(suse.DistributionScanner), new(photon.DistributionScanner),
	} {
		ds, err := s.Scan(ctx, &l)
		if err != nil {
			return nil, false, err
		}
		if len(ds) > 0 {
			return ds[0], false, nil
		}
	}
	return nil, false, nil
}

// itself is a distribution in its own words, nil if it has none.
func itself(r map[string]string) *claircore.Distribution {
	if r["ID"] == "" {
		return nil
	}
	d := &claircore.Distribution{
		DID: text(r["ID"]), Name: text(r["NAME"]), VersionID: text(r["VERSION_ID"]), Version: text(r["VERSION"]),
		VersionCodeName: text(r["VERSION_CODENAME"]), PrettyName: text(r["PRETTY_NAME"]),
	}
	if d.Name == "" {
		d.Name = d.DID
	}
	return d
}
