package updater

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// An entry is one line of an export: claircore's jsonblob format, which
// clairctl writes and reads too. The lines of one update share a Ref and follow
// one another.
type entry struct {
	Updater     string
	Fingerprint driver.Fingerprint
	Date        time.Time
	Ref         uuid.UUID
	Vuln        *claircore.Vulnerability `json:",omitempty"`
	Enrichment  *driver.EnrichmentRecord `json:",omitempty"`
	Kind        driver.UpdateKind
}

// Compress returns a writer that compresses to w as the file's name says: .gz,
// .zst, or neither. Closing it does not close w.
func Compress(w io.Writer, name string) (io.WriteCloser, error) {
	switch path.Ext(name) {
	case ".gz":
		return gzip.NewWriter(w), nil
	case ".zst":
		return zstd.NewWriter(w)
	default:
		return plain{w}, nil
	}
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// Export fetches the configured sets anew and writes them to w, for an
// installation without network to [Service.Import]. It needs no database. What
// could be fetched is written also where some updaters fail; the error then
// names each of those. After any other error the file is not to be used.
//
// An updater without a single advisory leaves no trace in the format, so that
// importing it changes nothing.
func Export(ctx context.Context, w io.Writer, o Options) error {
	s, err := New(o)
	if err != nil {
		return err
	}
	to := &export{enc: newEncoder(w)}
	obs := &exportObserver{log: s.log}
	for _, set := range s.sets {
		if err := s.runner.run(ctx, set, to, obs); err != nil {
			if ctx.Err() != nil {
				return err
			}
			obs.failed(fmt.Errorf("%s: %w", set.Name, err))
		}
		if to.broken != nil {
			return fmt.Errorf("write the export: %w", to.broken)
		}
	}
	return errors.Join(obs.errs...)
}

// An export is the sink that writes lines.
type export struct {
	mu     sync.Mutex
	enc    *json.Encoder
	broken error
}

func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

func (*export) previous(context.Context, driver.UpdateKind, string) (driver.Fingerprint, int64, error) {
	return "", 0, nil
}

func (x *export) vulnerabilities(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability) (uuid.UUID, error) {
	return x.write(ctx, entry{Updater: updater, Fingerprint: fp, Kind: driver.VulnerabilityKind}, len(vulns), func(e *entry, i int) { e.Vuln = vulns[i] })
}

func (x *export) delta(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability, _ []string) (uuid.UUID, error) {
	// Without a previous fingerprint a delta is everything there is.
	return x.vulnerabilities(ctx, updater, fp, vulns)
}

func (x *export) enrichments(ctx context.Context, updater string, fp driver.Fingerprint, records []driver.EnrichmentRecord) (uuid.UUID, error) {
	return x.write(ctx, entry{Updater: updater, Fingerprint: fp, Kind: driver.EnrichmentKind}, len(records), func(e *entry, i int) { e.Enrichment = &records[i] })
}

func (x *export) write(ctx context.Context, e entry, n int, fill func(*entry, int)) (uuid.UUID, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.Ref, e.Date = uuid.New(), time.Now()
	for i := range n {
		fill(&e, i)
		err := ctx.Err()
		if err == nil {
			err = x.enc.Encode(&e)
		}
		if err != nil {
			x.broken = err
			return uuid.Nil, err
		}
	}
	return e.Ref, nil
}

// An exportObserver logs the steps and keeps the failures.
type exportObserver struct {
	log  *slog.Logger
	mu   sync.Mutex
	errs []error
}

func (o *exportObserver) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (*exportObserver) discovered(context.Context, []string) error { return nil }

func (*exportObserver) accepted(context.Context, string) (bool, error) { return true, nil }
func (*exportObserver) started(context.Context, string) error          { return nil }

func (o *exportObserver) progress(ctx context.Context, text string) {
	o.log.DebugContext(ctx, "export", "step", text)
}

func (o *exportObserver) finished(ctx context.Context, updater string, out Outcome) error {
	if out.Err != nil {
		o.failed(fmt.Errorf("%s: %w", updater, out.Err))
		return nil
	}
	o.log.InfoContext(ctx, "exported", "updater", updater)
	return nil
}
