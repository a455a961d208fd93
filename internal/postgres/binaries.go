package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
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

// findBinaries returns the directory of the server binaries of a major version:
// those on the PATH if they fit, else the newest installed that do. Any version
// fits if major is empty.
func findBinaries(ctx context.Context, major string) (string, error) {
	dirs, err := installed()
	if err != nil {
		return "", err
	}
	if len(dirs) == 0 {
		return "", ErrNoBinaries
	}
	if major == "" {
		return dirs[0], nil
	}
	var others []string
	for _, d := range dirs {
		v, err := majorVersion(ctx, d)
		if err != nil {
			return "", err
		}
		if v == major {
			return d, nil
		}
		others = append(others, v)
	}
	return "", fmt.Errorf("private PostgreSQL: its data is of version %s, and this machine has %s (install postgresql-%s, or move the data with pg_upgrade)",
		major, strings.Join(others, " and "), major)
}

// installed are the directories with server binaries: that of the PATH, then
// the others from the newest to the oldest.
func installed() ([]string, error) {
	var found []string
	for _, pattern := range installDirs {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		found = append(found, dirs...)
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			found = slices.Insert(found, 0, filepath.Dir(p))
		}
	}
	return slices.DeleteFunc(found, func(d string) bool { return !complete(d) }), nil
}

// majorVersion asks the server in dir, which answers as in
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func majorVersion(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("private PostgreSQL: %s/postgres --version: %w", dir, err)
	}
	_, rest, _ := strings.Cut(string(out), "(PostgreSQL) ")
	v := versionRE.FindString(rest)
	if n, minor, ok := strings.Cut(v, "."); ok {
		if len(n) > 1 {
			return n, nil // since version 10, the first number alone
		}
		return n + "." + minor, nil
	}
	return v, nil
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
