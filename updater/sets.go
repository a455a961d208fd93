package updater

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/quay/claircore/alpine"
	"github.com/quay/claircore/aws"
	"github.com/quay/claircore/debian"
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/enricher/epss"
	"github.com/quay/claircore/enricher/kev"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/oracle"
	"github.com/quay/claircore/photon"
	"github.com/quay/claircore/suse"
	"github.com/quay/claircore/ubuntu"

	"tocsin.dev/tocsin/updater/osv"
)

// A Set is one publisher's updaters.
type Set struct {
	// Name is what configuration, jobs and rows call the set.
	Name string
	// Aliases are other names that configuration may use for it.
	Aliases []string
	// About describes the set's data in a phrase.
	About string
	// Keys are the configuration keys of the set, for people.
	Keys []string
	// Updaters are patterns of the names of its updaters. A trailing or inner *
	// stands for any text.
	Updaters []string
	// Fixed are the addresses that the set uses whatever its configuration is;
	// empty where every address can be configured.
	Fixed string
	// adapt, if set, changes how the set's requests are made.
	adapt func(settings *reader, next http.RoundTripper) http.RoundTripper
	// New builds a fresh factory. It is called for every run, so that nothing
	// a factory remembers outlives the run.
	New func(context.Context) (driver.UpdaterSetFactory, error)
}

// Sets returns the sets that Tocsin knows, sorted by name: those of claircore's
// default registry and its enrichers. Without other configuration all of them
// run.
func Sets() []Set {
	sets := []Set{
		{
			Name: "alpine", About: "Alpine Linux security database", Keys: []string{"url"},
			Updaters: []string{"alpine-*-updater"},
			New:      func(ctx context.Context) (driver.UpdaterSetFactory, error) { return alpine.NewFactory(ctx) },
		},
		{
			Name: "aws", About: "Amazon Linux security updates", Updaters: []string{"aws-*-updater"},
			Fixed: "repo.us-west-2.amazonaws.com and cdn.amazonlinux.com, always: it takes no URL; leave it out where they cannot be reached",
			New:   function(aws.UpdaterSet),
		},
		{
			Name: "debian", About: "Debian security tracker", Keys: []string{"mirror_url", "json_url"},
			Updaters: []string{"debian/updater"},
			New:      func(ctx context.Context) (driver.UpdaterSetFactory, error) { return debian.NewFactory(ctx) },
		},
		{
			Name: "osv", About: "OSV: Go, PyPI, npm, Maven, RubyGems and others", Keys: []string{"url", "allowlist"},
			Updaters: []string{"osv/*"},
			adapt:    indexBesideData,
			New:      func(context.Context) (driver.UpdaterSetFactory, error) { return new(osv.Factory), nil },
		},
		{
			Name: "oracle", About: "Oracle Linux OVAL, one updater a year", Updaters: []string{"oracle-*-updater"},
			New: function(oracle.UpdaterSet),
		},
		{
			Name: "photon", About: "VMware Photon OVAL, one updater a release", Updaters: []string{"photon-updater-*"},
			New: function(photon.UpdaterSet),
		},
		{
			Name: "rhel-vex", About: "Red Hat VEX", Keys: []string{"url", "compressed_file_timeout"},
			Updaters: []string{"rhel-vex"},
			New:      func(context.Context) (driver.UpdaterSetFactory, error) { return new(vexFactory), nil },
		},
		{
			Name: "suse", About: "SUSE and openSUSE OVAL", Keys: []string{"url"}, Updaters: []string{"suse-updater-*"},
			New: func(context.Context) (driver.UpdaterSetFactory, error) { return new(suse.Factory), nil },
		},
		{
			Name: "ubuntu", About: "Ubuntu OVAL", Keys: []string{"url", "name", "force"},
			Updaters: []string{"ubuntu/updater/*"},
			Fixed:    "security-metadata.canonical.com to discover releases, whatever url says; leave it out where it cannot be reached",
			New:      func(ctx context.Context) (driver.UpdaterSetFactory, error) { return ubuntu.NewFactory(ctx) },
		},
		{
			Name: "cvss", Aliases: []string{"clair.cvss"}, About: "CVSS scores of the NVD", Keys: []string{"feed_root"},
			Updaters: []string{"clair.cvss"},
			New:      func(context.Context) (driver.UpdaterSetFactory, error) { return static(new(cvss.Enricher)), nil },
		},
		{
			Name: "epss", Aliases: []string{"clair.epss"}, About: "exploit prediction scores", Keys: []string{"url"},
			Updaters: []string{"clair.epss"},
			New:      func(context.Context) (driver.UpdaterSetFactory, error) { return epss.NewFactory(), nil },
		},
		{
			Name: "kev", Aliases: []string{"clair.kev"}, About: "CISA's known exploited vulnerabilities", Keys: []string{"feed_root"},
			Updaters: []string{"clair.kev"},
			New:      func(context.Context) (driver.UpdaterSetFactory, error) { return kev.NewFactory(), nil },
		},
	}
	slices.SortFunc(sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	return sets
}

func function(f func(context.Context) (driver.UpdaterSet, error)) func(context.Context) (driver.UpdaterSetFactory, error) {
	return func(context.Context) (driver.UpdaterSetFactory, error) { return driver.UpdaterSetFactoryFunc(f), nil }
}

func static(u driver.Updater) driver.UpdaterSetFactory {
	s := driver.NewUpdaterSet()
	// Add fails on a second updater of one name only.
	_ = s.Add(u)
	return driver.StaticSet(s)
}

// called reports whether name is the set's name or an alias of it.
func (s *Set) called(name string) bool {
	return s.Name == name || slices.Contains(s.Aliases, name)
}

// owns reports whether an updater of that name can belong to the set.
func (s *Set) owns(updater string) bool {
	return slices.ContainsFunc(s.Updaters, func(pattern string) bool {
		before, after, star := strings.Cut(pattern, "*")
		if !star {
			return updater == pattern
		}
		return len(updater) > len(before)+len(after) && strings.HasPrefix(updater, before) && strings.HasSuffix(updater, after)
	})
}

// choose returns the sets of all with the given names, in all's order; every
// one when names is empty.
func choose(all []Set, names []string) ([]Set, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Set
	for _, s := range all {
		if slices.ContainsFunc(names, s.called) {
			chosen = append(chosen, s)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(all, func(s Set) bool { return s.called(n) }) {
			return nil, fmt.Errorf("%w: %q (there are %s)", ErrUnknownSet, n, strings.Join(setNames(all), ", "))
		}
	}
	return chosen, nil
}

func setNames(sets []Set) []string {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.Name
	}
	return names
}
