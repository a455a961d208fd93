package ecosystem

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"
)

// maxDatabase is how many bytes of a package database are read. Fetching
// refuses layers with larger ones.
const maxDatabase = 128 << 20

// stanzas reads a file of paragraphs of "Field: value" lines, as dpkg's status
// is, and hands each to yield. Lines that continue a field, and lines that are
// none, are passed over.
func stanzas(r io.Reader, yield func(map[string]string)) error {
	in := bufio.NewReaderSize(io.LimitReader(r, maxDatabase), 64<<10)
	fields := map[string]string{}
	for {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		switch trimmed := strings.TrimRight(line, "\r\n"); {
		case strings.TrimSpace(trimmed) == "":
			if len(fields) > 0 {
				yield(fields)
				fields = map[string]string{}
			}
		case trimmed[0] == ' ' || trimmed[0] == '\t' || trimmed[0] == '#':
		default:
			if k, v, ok := strings.Cut(trimmed, ":"); ok {
				fields[strings.ToLower(k)] = text(strings.TrimSpace(v))
			}
		}
		if err != nil {
			if len(fields) > 0 {
				yield(fields)
			}
			return nil
		}
	}
}

// debianPackage is what a paragraph of a package database says is installed,
// with the source it was built from: its own name and version unless "Source"
// says otherwise, as in "krb5 (1.20.1-2+deb12u2)". Nil if it names no package.
func debianPackage(fields map[string]string, db string) *claircore.Package {
	p := &claircore.Package{
		Name: fields["package"], Version: fields["version"], Arch: fields["architecture"],
		Kind: types.BinaryPackage, PackageDB: db,
	}
	if p.Name == "" || p.Version == "" {
		return nil
	}
	source := &claircore.Package{Name: p.Name, Version: p.Version, Kind: types.SourcePackage, PackageDB: db}
	if name, version, ok := strings.Cut(fields["source"], "("); name != "" {
		source.Name = strings.TrimSpace(name)
		if ok {
			source.Version = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(version), ")"))
		}
	}
	p.Source = source
	return p
}

// present reports whether a package's files are on the disk in this state:
// "want error state", as "install ok installed". Those that are unpacked and
// not yet configured are.
func present(status string) bool {
	words := strings.Fields(status)
	if len(words) != 3 {
		return false
	}
	switch words[2] {
	case "installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending":
		return true
	}
	return false
}

// readStanzas opens a file of a layer and reads its paragraphs.
func readStanzas(sys fs.FS, name string, yield func(map[string]string)) error {
	f, err := sys.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	if err := stanzas(f, yield); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
