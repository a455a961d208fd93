package updater

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/klauspost/compress/zstd"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/vulnstore"
)

// Imported is what an import did.
type Imported struct {
	// Updated names the updaters whose data were stored; Skipped those whose
	// newest data have the fingerprint that the file has.
	Updated []string `json:"updated"`
	Skipped []string `json:"skipped"`
}

// Import stores an export: Tocsin's or clairctl's, plain, gzip or zstd, told by
// its first bytes. Every updater's data are stored whole or not at all, in the
// order of the file, and the matcher is woken after each; what was stored before
// an error stays. A file that was cut short stores nothing of the updater that
// it breaks off in, if it is compressed: a plain file that ends between two
// lines cannot be told from a complete one.
func (s *Service) Import(ctx context.Context, r io.Reader) (Imported, error) {
	plain, err := decompress(r, s.runner.limits.Unpacked)
	if err != nil {
		return Imported{}, badArchive(fmt.Errorf("import: %w", err))
	}
	defer plain.Close()
	in := newEntries(plain, s.runner.limits.Entry)
	var done Imported
	for in.advance() {
		e := *in.next
		skip, err := s.importOne(ctx, in, e)
		if err == nil {
			err = in.err
		}
		if err != nil {
			err = fmt.Errorf("import of %s: %w", e.Updater, err)
			if in.err != nil {
				return done, badArchive(err)
			}
			return done, refusedData(err, in.line)
		}
		if skip {
			done.Skipped = append(done.Skipped, e.Updater)
		} else {
			done.Updated = append(done.Updated, e.Updater)
		}
	}
	if in.err != nil {
		return done, badArchive(fmt.Errorf("import: %w", in.err))
	}
	if len(done.Updated)+len(done.Skipped) == 0 {
		return done, badArchive(errors.New("import: the file is empty"))
	}
	return done, nil
}

// ErrBadArchive is the kind of an error about what is in an archive: it says in
// which line, and importing the same file again will not help.
var ErrBadArchive = problem.New(problem.Invalid, "this is not a whole archive of updaters")

// badArchive says that an error is about the archive, unless it says more by itself.
func badArchive(err error) error {
	if problem.KindOf(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadArchive, err)
}

// refusedData tells data that the database can't hold from a fault of it.
func refusedData(err error, line int) error {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pe.Code, "22") { // data exception
		return badArchive(fmt.Errorf("up to line %d: %w", line, err))
	}
	return err
}

// importOne stores the lines that share the first one's Ref.
func (s *Service) importOne(ctx context.Context, in *entries, first entry) (skipped bool, err error) {
	have, rows, err := s.database.previous(ctx, first.Kind, first.Updater)
	if err != nil {
		return false, err
	}
	if have != "" && have == first.Fingerprint && rows > 0 {
		for in.more(first.Ref) {
			in.taken()
		}
		return true, in.err
	}
	var ref uuid.UUID
	switch first.Kind {
	case driver.VulnerabilityKind:
		ref, err = s.database.update(ctx, vulnstore.Update{Updater: first.Updater, Fingerprint: first.Fingerprint, Vulns: in.vulnerabilities(first)})
	case driver.EnrichmentKind:
		var records []driver.EnrichmentRecord
		for in.more(first.Ref) {
			if in.next.Enrichment == nil {
				return false, in.broken("a record is missing")
			}
			records = append(records, *in.next.Enrichment)
			in.taken()
		}
		if in.err != nil {
			return false, in.err
		}
		ref, err = s.database.enrichments(ctx, first.Updater, first.Fingerprint, records)
	default:
		return false, in.broken(fmt.Sprintf("kind %q is unknown", first.Kind))
	}
	if err != nil {
		return false, err
	}
	defer s.waker.Wake(bus.WakeMatcher)
	_, rows, err = s.database.previous(ctx, first.Kind, first.Updater)
	if err != nil {
		return false, err
	}
	return false, s.record.imported(ctx, s.setOf(first.Updater), first.Updater, ref, rows)
}

// setOf returns the name of the set that an updater belongs to.
func (s *Service) setOf(updater string) string {
	if i := slices.IndexFunc(s.known, func(set Set) bool { return set.owns(updater) }); i >= 0 {
		return s.known[i].Name
	}
	return "import"
}

func (r *record) imported(ctx context.Context, set, updater string, ref uuid.UUID, rows int64) error {
	_, err := r.pool.Exec(ctx, recordImport, pgx.NamedArgs{"set": set, "updater": updater, "ref": ref, "rows": rows})
	if err != nil {
		return fmt.Errorf("record the import of %s: %w", updater, err)
	}
	return nil
}

const recordImport = `
INSERT INTO tocsin.updater_run
  (set_name, updater, started_at, finished_at, result, ref, vulnerabilities, fingerprint_changed, succeeded_at, stored_at)
VALUES (@set, @updater, clock_timestamp(), clock_timestamp(), 'updated', @ref, @rows, true, clock_timestamp(), clock_timestamp())
ON CONFLICT (set_name, updater) DO UPDATE
SET job_id = NULL, started_at = clock_timestamp(), finished_at = clock_timestamp(), result = 'updated', error = '', ref = @ref,
    vulnerabilities = @rows, fingerprint_changed = true, succeeded_at = clock_timestamp(), stored_at = clock_timestamp(),
    failures = 0, failing_since = NULL, announced_at = NULL`

// entries reads lines one ahead.
type entries struct {
	dec   *json.Decoder
	bound lineBound
	limit int64
	line  int
	next  *entry // nil: not read yet
	err   error
}

func newEntries(r io.Reader, limit int64) *entries {
	in := &entries{limit: limit, bound: lineBound{r: r, limit: limit}}
	in.dec = json.NewDecoder(&in.bound)
	return in
}

// advance makes the next line available; false at the end and on an error.
func (in *entries) advance() bool {
	if in.next != nil || in.err != nil {
		return in.err == nil
	}
	in.bound.left = in.limit
	var e entry
	err := in.dec.Decode(&e)
	if errors.Is(err, io.EOF) {
		return false
	}
	in.line++
	if errors.Is(err, io.ErrUnexpectedEOF) {
		in.err = fmt.Errorf("line %d: the file is cut short: %w", in.line, err)
	} else if err != nil {
		in.err = fmt.Errorf("line %d: %w", in.line, err)
	} else if e.Updater == "" || e.Ref == uuid.Nil {
		in.err = fmt.Errorf("line %d: not a line of an updater export", in.line)
	} else {
		in.next = &e
	}
	return in.err == nil
}

// more reports whether the next line belongs to the update ref.
func (in *entries) more(ref uuid.UUID) bool {
	return in.advance() && in.next != nil && in.next.Ref == ref
}

func (in *entries) taken() { in.next = nil }

func (in *entries) broken(what string) error {
	in.err = fmt.Errorf("line %d: %s", in.line, what)
	return in.err
}

func (in *entries) vulnerabilities(first entry) func(func(*claircore.Vulnerability, error) bool) {
	return func(yield func(*claircore.Vulnerability, error) bool) {
		for in.more(first.Ref) {
			if in.next.Vuln == nil {
				_ = in.broken("a vulnerability is missing")
				break
			}
			v := in.next.Vuln
			in.taken()
			identify(v)
			if !yield(v, nil) {
				return
			}
		}
		if in.err != nil {
			yield(nil, in.err)
		}
	}
}

// A lineBound ends with an error when one line has more bytes than the limit.
type lineBound struct {
	r           io.Reader
	left, limit int64
}

func (b *lineBound) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: a line has more than %d bytes (updaters.limits.entry)", ErrTooLarge, b.limit)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// decompress returns what r holds, at most limit bytes.
func decompress(r io.Reader, limit int64) (io.ReadCloser, error) {
	buf := bufio.NewReaderSize(r, 64<<10)
	magic, err := buf.Peek(4)
	if err != nil && len(magic) == 0 {
		return nil, errors.New("the file is empty")
	}
	var plain io.ReadCloser
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		plain, err = gzip.NewReader(buf)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err == nil {
			plain = d.IOReadCloser()
		}
	default:
		plain, err = io.NopCloser(buf), nil
	}
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return &bounded{ReadCloser: plain, left: limit, limit: limit}, nil
}

// A bounded reader ends with an error after limit bytes.
type bounded struct {
	io.ReadCloser
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: it unpacks to more than %d bytes (updaters.limits.unpacked)", ErrTooLarge, b.limit)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
