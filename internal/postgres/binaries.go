package postgres

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNoBinaries is returned when this machine has no PostgreSQL server binaries.
var ErrNoBinaries = errors.New(`no PostgreSQL server found on this machine; three ways on:
  - install one and start again: apt-get install postgresql (Tocsin then runs a private cluster of its own)
  - use a server you have: --database-url postgres://user:password@host:5432/tocsin
  - bring up everything in containers: docker compose up`)

// installDirs are where distributions and installers put server binaries that
// are not on the PATH.
var installDirs = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // PGDG packages for RPM systems
	"/usr/libexec/postgresql*",  // Alpine
	"/usr/local/pgsql/bin",      // built from source
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

// findBinaries returns the directory of the newest PostgreSQL server binaries:
// those on the PATH if there are any, else the newest installed.
func findBinaries() (string, error) {
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil && complete(filepath.Dir(p)) {
			return filepath.Dir(p), nil
		}
	}
	var found []string
	for _, pattern := range installDirs {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, d := range dirs {
			if complete(d) {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return "", ErrNoBinaries
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
}

// complete reports whether dir holds the programs a cluster needs.
func complete(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.IsDir() || fi.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

var versionRE = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// version reads the version out of an installation path, 0 if it has none.
func version(dir string) float64 {
	all := versionRE.FindAllString(dir, -1)
	if len(all) == 0 {
		return 0
	}
	v, err := strconv.ParseFloat(all[len(all)-1], 64)
	if err != nil {
		return 0
	}
	return v
}
