package osv

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// advisory is the part of an OSV document that is looked at; see
// https://ossf.github.io/osv-schema/.
type advisory struct {
	ID         string     `json:"id"`
	Published  time.Time  `json:"published"`
	Withdrawn  time.Time  `json:"withdrawn"`
	Aliases    []string   `json:"aliases"`
	Upstream   []string   `json:"upstream"` // what a distribution's advisory is about
	Summary    string     `json:"summary"`
	Details    string     `json:"details"`
	Severity   []severity `json:"severity"`
	Affected   []affected `json:"affected"`
	References []struct {
		URL string `json:"url"`
	} `json:"references"`
	Database json.RawMessage `json:"database_specific"`

	// name is the id of the group of advisories that it is one of, and also
	// the group's other ids; set by merge.
	name string
	also []string
}

type severity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type affected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Ranges []struct {
		Type   string  `json:"type"`
		Events []event `json:"events"`
	} `json:"ranges"`
	Versions []string   `json:"versions"`
	Severity []severity `json:"severity"`
}

type event struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
	Limit        string `json:"limit"`
}

// read returns the advisories that are in force, of the archive of archives that
// claircore's fetcher writes.
func read(ctx context.Context, contents io.ReadCloser) ([]*advisory, error) {
	file, ok := contents.(interface {
		io.ReaderAt
		Stat() (fs.FileInfo, error)
	})
	if !ok {
		return nil, errors.New("osv: what was fetched is not a file")
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("osv: %w", err)
	}
	outer, err := zip.NewReader(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("osv: %w", err)
	}
	var out []*advisory
	for _, f := range outer.File {
		// claircore stores the archives that it fetches as they are.
		at, err := f.DataOffset()
		if err != nil || f.Method != zip.Store {
			return nil, fmt.Errorf("osv: %s is not stored as it is: %w", f.Name, err)
		}
		inner, err := zip.NewReader(io.NewSectionReader(file, at, int64(f.UncompressedSize64)), int64(f.UncompressedSize64))
		if err != nil {
			return nil, fmt.Errorf("osv: %s: %w", f.Name, err)
		}
		for _, entry := range inner.File {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			a, err := readOne(entry)
			if err != nil {
				return nil, fmt.Errorf("%w (in %s)", err, entry.Name)
			}
			if a.ID != "" && (a.Withdrawn.IsZero() || a.Withdrawn.After(time.Now())) {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

func readOne(entry *zip.File) (*advisory, error) {
	r, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var a advisory
	if err := json.NewDecoder(r).Decode(&a); err != nil {
		return nil, err
	}
	a.name = a.ID
	return &a, nil
}
