package ecosystem

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/toolkit/types"
)

// apkDatabases are where apk keeps what is installed: the older place and the
// newer one, one of which may be a link to the other.
var apkDatabases = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}

// Apk is the scanner of apk's databases. It takes the place of claircore's,
// which knows the older place alone.
type Apk struct{}

var _ indexer.PackageScanner = Apk{}

// Name implements [indexer.VersionedScanner].
func (Apk) Name() string { return "tocsin-apk" }

// Version implements [indexer.VersionedScanner].
func (Apk) Version() string { return "1" }

// Kind implements [indexer.VersionedScanner].
func (Apk) Kind() string { return "package" }

// Scan implements [indexer.PackageScanner].
func (Apk) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Package, error) {
	sys, err := l.FS()
	if err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	var out []*claircore.Package
	for _, db := range apkDatabases {
		f, err := sys.Open(db)
		if err != nil {
			continue // not in this layer
		}
		found, err := apkPackages(io.LimitReader(f, maxDatabase), db)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("apk: %s: %w", db, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// apkPackages reads a database: entries of lines of one letter, a colon and a
// value, with an empty line after each.
func apkPackages(r io.Reader, db string) ([]*claircore.Package, error) {
	var out []*claircore.Package
	in := bufio.NewReader(r)
	fields := map[byte]string{}
	for {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case len(line) > 1 && line[1] == ':':
			fields[line[0]] = text(strings.TrimSpace(line[2:]))
		case line == "":
			if p := apkPackage(fields, db); p != nil {
				out = append(out, p)
			}
			clear(fields)
		}
		if err != nil {
			if p := apkPackage(fields, db); p != nil {
				out = append(out, p)
			}
			return out, nil
		}
	}
}

func apkPackage(fields map[byte]string, db string) *claircore.Package {
	p := &claircore.Package{
		Name: fields['P'], Version: fields['V'], Arch: fields['A'], RepositoryHint: fields['c'],
		Kind: types.BinaryPackage, PackageDB: db,
	}
	if p.Name == "" || p.Version == "" {
		return nil
	}
	if origin := fields['o']; origin != "" {
		p.Source = &claircore.Package{Name: origin, Version: p.Version, Kind: types.SourcePackage}
	}
	return p
}
