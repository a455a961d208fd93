package updater

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln"
	"github.com/quay/claircore/libvuln/jsonblob"

	"tocsin.dev/tocsin/internal/problem"
)

// contents is what the database has of each updater, in a form to compare.
func contents(b *bench) map[string][]string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `
SELECT uo.updater, concat_ws('|', uo.fingerprint, v.name, v.package_name, v.fixed_in_version, v.vulnerable_range, v.dist_version_id, v.links, v.severity)
FROM update_operation uo JOIN latest_update_operations l USING (id) JOIN uo_vuln ON uo = uo.id JOIN vuln v ON v.id = vuln
UNION ALL
SELECT uo.updater, concat_ws('|', uo.fingerprint, e.tags, e.data)
FROM update_operation uo JOIN latest_update_operations l USING (id) JOIN uo_enrich ON uo = uo.id JOIN enrichment e ON e.id = enrich
ORDER BY 1, 2`)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string][]string{}
	for rows.Next() {
		var updater, row string
		if err := rows.Scan(&updater, &row); err != nil {
			b.t.Fatal(err)
		}
		out[updater] = append(out[updater], row)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// TestAirgap: what is exported and imported is what an online run stores,
// whether Tocsin or claircore's own code, which clairctl runs, is on either side.
func TestAirgap(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 20, "Go", "PyPI")
	m.alpine("1", "v3.3")
	m.debian(t)
	m.kev(t, "CVE-2026-0001", "CVE-2026-0002")
	cfg := m.config("osv", "alpine", "debian", "kev")
	online := newBench(t, cfg)
	for _, set := range cfg.Sets {
		if err := online.run(set); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(online)
	if len(want) != 5 || len(want["osv/go"]) != 20 {
		t.Fatalf("the online run stored %d updaters' data, and %d rows for Go", len(want), len(want["osv/go"]))
	}
	var file bytes.Buffer
	if err := Export(t.Context(), &file, Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"x.json", "x.json.gz", "x.json.zst"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var packed bytes.Buffer
			w, err := Compress(&packed, name)
			if err == nil {
				_, err = w.Write(file.Bytes())
			}
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			if name != "x.json" && packed.Len() > file.Len()/2 {
				t.Errorf("%s has %d bytes of %d", name, packed.Len(), file.Len())
			}
			b := newBench(t, Config{Schedules: map[string]string{"default": Off}})
			done, err := b.Import(t.Context(), bytes.NewReader(packed.Bytes()))
			if err != nil || len(done.Updated) != 5 || len(done.Skipped) != 0 || b.woken() != 5 {
				t.Errorf("import of %s did %+v (%v) and woke the matcher %d times", name, done, err, b.woken())
			}
			if diff := cmp.Diff(want, contents(b)); diff != "" {
				t.Errorf("imported differs from online (-online +imported):\n%s", diff)
			}
			b.want("osv/go", Updated, 20)
			b.want("clair.kev", Updated, 2)
			// Again: everything is there already.
			done, err = b.Import(t.Context(), bytes.NewReader(packed.Bytes()))
			if err != nil || len(done.Updated) != 0 || len(done.Skipped) != 5 {
				t.Errorf("a second import did %+v (%v)", done, err)
			}
		})
	}
	t.Run("read by claircore", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{})
		if err := libvuln.OfflineImport(t.Context(), b.pool, bytes.NewReader(file.Bytes())); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(b)); diff != "" {
			t.Errorf("claircore's import differs (-online +imported):\n%s", diff)
		}
	})
	t.Run("written by claircore", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{})
		done, err := b.Import(t.Context(), rewritten(t, file.Bytes()))
		if err != nil || len(done.Updated) != 5 {
			t.Fatalf("import of claircore's file did %+v (%v)", done, err)
		}
		if diff := cmp.Diff(want, contents(b), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("claircore's export differs (-online +imported):\n%s", diff)
		}
	})
}

// rewritten returns the file as claircore's own code writes it.
func rewritten(t *testing.T, file []byte) io.Reader {
	store, err := jsonblob.New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := jsonblob.Load(t.Context(), bytes.NewReader(file))
	for err == nil && l.Next() {
		e := l.Entry()
		if e.Vuln != nil {
			_, err = store.UpdateVulnerabilities(t.Context(), e.Updater, e.Fingerprint, e.Vuln)
		} else {
			_, err = store.UpdateEnrichments(t.Context(), e.Updater, e.Fingerprint, e.Enrichment)
		}
	}
	var out bytes.Buffer
	if err := errors.Join(err, l.Err(), store.Store(&out)); err != nil {
		t.Fatal(err)
	}
	return &out
}

// TestImportHostile: a file that is broken says where, and stores nothing of the
// updater that it is broken in.
func TestImportHostile(t *testing.T) {
	t.Parallel()
	var good bytes.Buffer
	x := &export{enc: newEncoder(&good)}
	vulns := make([]*claircore.Vulnerability, 100)
	for i := range vulns {
		vulns[i] = &claircore.Vulnerability{Name: "GO-1", Updater: "osv/go", Description: strings.Repeat("x", i), Package: &claircore.Package{Name: "p"}}
	}
	if _, err := x.vulnerabilities(t.Context(), "osv/go", "1", vulns[:50]); err != nil {
		t.Fatal(err)
	}
	first := good.Len()
	if _, err := x.vulnerabilities(t.Context(), "osv/npm", "1", vulns); err != nil {
		t.Fatal(err)
	}
	lines := good.Bytes()
	packed := func(write func(io.Writer) (io.WriteCloser, error), data []byte) []byte {
		var b bytes.Buffer
		w, err := write(&b)
		if err == nil {
			_, err = w.Write(data)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz := func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	zst := func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }
	gzipped, zipped := packed(gz, lines), packed(zst, lines)

	tests := []struct {
		name string
		file []byte
		is   error
		says string
		rows int // of osv/go
	}{
		{name: "empty", file: nil, says: "empty"},
		{name: "only spaces", file: []byte(" \n "), says: "empty"},
		{name: "not JSON", file: []byte("<html>"), says: "line 1"},
		{name: "other JSON", file: []byte(`{"a":1}`), says: "not a line of an updater export"},
		{name: "cut in a line", file: lines[:len(lines)-20], is: io.ErrUnexpectedEOF, says: "osv/npm", rows: 50},
		{name: "cut in the first", file: lines[:first-20], is: io.ErrUnexpectedEOF, says: "osv/go"},
		{name: "cut gzip", file: gzipped[:len(gzipped)-10], is: io.ErrUnexpectedEOF, rows: 50},
		{name: "cut zstd", file: zipped[:len(zipped)-10], is: io.ErrUnexpectedEOF}, // one block
		{name: "garbage later", file: append(bytes.Clone(lines), "oops"...), says: "line 151", rows: 50},
		{name: "unknown kind", file: bytes.ReplaceAll(lines, []byte(`"vulnerability"`), []byte(`"weather"`)), says: `kind "weather"`},
		{name: "without data", file: bytes.ReplaceAll(lines, []byte(`"Vuln"`), []byte(`"Vulnn"`)), says: "missing"},
		{name: "endless line", file: append(bytes.Clone(lines), `{"Updater":"`+strings.Repeat("x", 1<<20)...), is: ErrTooLarge, says: "limits.entry", rows: 50},
		{name: "bomb", file: packed(gz, bytes.Repeat([]byte(" "), 9<<20)), is: ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{Limits: Limits{Entry: 512 << 10, Unpacked: 8 << 20}})
			done, err := b.Import(t.Context(), bytes.NewReader(tt.file))
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("import says %v, want %v with %q", err, tt.is, tt.says)
			}
			if kind := problem.KindOf(err); kind != problem.Invalid && (kind != problem.TooLarge || tt.is != ErrTooLarge) {
				t.Errorf("a broken file is a problem of kind %q: whoever sent it is told nothing", kind)
			}
			if n := one[int](b, `SELECT count(*) FROM latest_vuln WHERE updater = 'osv/go'`); n != tt.rows || len(done.Updated) != min(tt.rows, 1) {
				t.Errorf("%d rows of the first updater are stored and %v reported, want %d", n, done.Updated, tt.rows)
			}
			if n := one[int](b, `SELECT count(*) FROM update_operation WHERE updater = 'osv/npm'`); n != 0 {
				t.Error("the updater that the file is broken in has an update operation")
			}
		})
	}
}

// TestExportFailures: what cannot be fetched is named; the rest is written.
func TestExportFailures(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 3, "Go", "npm")
	m.hook("/npm/all.zip", http.NotFound)
	m.hook("/kev.json", http.NotFound)
	m.hook("/alpine/last-update", http.NotFound)
	var file bytes.Buffer
	err := Export(t.Context(), &file, Options{Config: m.config("osv", "kev", "alpine")})
	for _, name := range []string{"osv/npm", "clair.kev", "alpine"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the error %v does not name %s", err, name)
		}
	}
	b := newBench(t, Config{})
	if done, err := b.Import(t.Context(), &file); err != nil || len(done.Updated) != 1 {
		t.Errorf("what was written imports as %+v (%v)", done, err)
	}
	if err := Export(t.Context(), brokenWriter{}, Options{Config: m.config("osv")}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a full disk gives %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
