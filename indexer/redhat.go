package indexer

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/rhel"
	"github.com/quay/claircore/rhel/rhcc"

	"tocsin.dev/tocsin/indexer/sandbox"
)

// Names of the scanners that need mapping files.
const (
	repositoryScanner = "rhel-repository-scanner"
	containerScanner  = "rhel_containerscanner"
)

// mapped stands in for a scanner of claircore that needs a [mapping]. Layers
// that have nothing for the scanner to look at pass without one; for the others
// it asks for the file, which the process that runs this one keeps.
type mapped[T any] struct {
	indexer.VersionedScanner
	needed func(fs.FS) (bool, error)
	// build returns the scanner proper, configured with a mapping file.
	build func(ctx context.Context, file string) (func(context.Context, *claircore.Layer) ([]*T, error), error)

	mu   sync.Mutex
	file string
	at   time.Time // when the file in use was written
	scan func(context.Context, *claircore.Layer) ([]*T, error)
}

var (
	_ indexer.RepositoryScanner = (*mapped[claircore.Repository])(nil)
	_ indexer.PackageScanner    = (*mapped[claircore.Package])(nil)
)

// Scan implements [indexer.RepositoryScanner] or [indexer.PackageScanner].
func (m *mapped[T]) Scan(ctx context.Context, l *claircore.Layer) ([]*T, error) {
	sys, err := l.FS()
	if err != nil {
		return nil, err
	}
	if needed, err := m.needed(sys); err != nil || !needed {
		return nil, err
	}
	file, ok := ctx.Value(mappingKey{}).(string)
	if !ok {
		return nil, sandbox.ErrAsk
	}
	scan, err := m.scanner(ctx, file)
	if err != nil {
		return nil, err
	}
	return scan(ctx, l)
}

// mappingKey is where the context has the mapping file of a scan.
type mappingKey struct{}

// scanner returns the scanner for a mapping file.
func (m *mapped[T]) scanner(ctx context.Context, file string) (func(context.Context, *claircore.Layer) ([]*T, error), error) {
	fi, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scan != nil && m.file == file && m.at.Equal(fi.ModTime()) {
		return m.scan, nil
	}
	scan, err := m.build(ctx, file)
	if err != nil {
		return nil, err
	}
	m.scan, m.file, m.at = scan, file, fi.ModTime()
	return scan, nil
}

// newMappings makes the mappings that scanners ask for.
func newMappings(o Scanners, dir string, client *http.Client, log *slog.Logger) (map[scannerOf]*mapping, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("mapping files: %w", err)
	}
	var repo rhel.RepositoryScannerConfig
	if err := o.configure(o.Repo, repositoryScanner, &repo); err != nil {
		return nil, err
	}
	var pkg rhcc.ScannerConfig
	if err := o.configure(o.Package, containerScanner, &pkg); err != nil {
		return nil, err
	}
	cpes := newMapping(repo.Repo2CPEMappingURL, repo.Repo2CPEMappingFile, rhel.DefaultRepo2CPEMappingURL, filepath.Join(dir, "repo2cpe.json"), client, log)
	names := newMapping(pkg.Name2ReposMappingURL, pkg.Name2ReposMappingFile, rhcc.DefaultName2ReposMappingURL, filepath.Join(dir, "name2repos.json"), client, log)
	return map[scannerOf]*mapping{{repositoryScanner, "repository"}: cpes, {containerScanner, "package"}: names}, nil
}

// redHat makes the ecosystems rhel and rhcc with scanners that do without their
// mapping files where they can.
func redHat(ctx context.Context) (rhelEco, rhccEco *indexer.Ecosystem, err error) {
	rhelEco = rhel.NewEcosystem(ctx)
	repos := &mapped[claircore.Repository]{
		VersionedScanner: new(rhel.RepositoryScanner), needed: hasRepositories,
		build: func(ctx context.Context, file string) (func(context.Context, *claircore.Layer) ([]*claircore.Repository, error), error) {
			s := new(rhel.RepositoryScanner)
			return s.Scan, s.Configure(ctx, func(v any) error {
				v.(*rhel.RepositoryScannerConfig).Repo2CPEMappingFile = file
				return nil
			}, scannerClient())
		},
	}
	rhelEco.RepositoryScanners = func(context.Context) ([]indexer.RepositoryScanner, error) {
		return []indexer.RepositoryScanner{repos}, nil
	}

	rhccEco = rhcc.NewEcosystem(ctx)
	stock := rhccEco.PackageScanners
	scanners, err := stock(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i, s := range scanners {
		if _, ok := s.(indexer.RPCScanner); !ok {
			continue
		}
		scanners[i] = &mapped[claircore.Package]{
			VersionedScanner: s, needed: hasBuildInfo,
			build: func(ctx context.Context, file string) (func(context.Context, *claircore.Layer) ([]*claircore.Package, error), error) {
				fresh, err := stock(ctx)
				if err != nil {
					return nil, err
				}
				return fresh[i].Scan, fresh[i].(indexer.RPCScanner).Configure(ctx, func(v any) error {
					v.(*rhcc.ScannerConfig).Name2ReposMappingFile = file
					return nil
				}, scannerClient())
			},
		}
	}
	rhccEco.PackageScanners = func(context.Context) ([]indexer.PackageScanner, error) { return scanners, nil }
	return rhelEco, rhccEco, nil
}

func newMapping(url, file, standard, cache string, client *http.Client, log *slog.Logger) *mapping {
	if url == "" && file == "" {
		url = standard
	}
	if abs, err := filepath.Abs(file); err == nil && file != "" {
		file = abs // who reads it works elsewhere
	}
	return &mapping{url: url, file: file, cache: cache, http: client, log: log, backoff: mappingBackoff}
}

// hasRepositories reports whether a layer has what the repository scanner
// translates: a content manifest of Red Hat's build system or a dnf history.
func hasRepositories(sys fs.FS) (bool, error) {
	return anyFile(sys, func(string) bool { return true },
		"root/buildinfo/content_manifests/*.json", "usr/share/buildinfo/content_manifests/*.json", "usr/share/buildinfo/*.json",
		"usr/lib/sysimage/libdnf5/transaction_history.sqlite", "var/lib/dnf/history.sqlite")
}

// hasBuildInfo reports whether a layer has the Dockerfile of an image of Red
// Hat's, named by name, version and release.
func hasBuildInfo(sys fs.FS) (bool, error) {
	return anyFile(sys, func(p string) bool { return strings.Count(path.Base(p), "-") > 1 }, "root/buildinfo/Dockerfile-*")
}

func anyFile(sys fs.FS, ok func(string) bool, patterns ...string) (bool, error) {
	for _, p := range patterns {
		found, err := fs.Glob(sys, p)
		if err != nil {
			return false, err
		}
		for _, f := range found {
			if ok(f) {
				return true, nil
			}
		}
	}
	return false, nil
}
