package indexer

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/indexer/sandbox"
)

// bdbLoop is an rpm database of Berkeley DB whose only hash page follows
// itself.
func bdbLoop() string {
	b := make([]byte, 1024)
	put := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	put(0, 1)
	put(12, 0x061561) // magic of a hash
	put(16, 9)        // version
	put(20, 512)      // bytes of a page
	b[25] = 8         // type: hash metadata
	put(32, 3)
	for at := 0x60; at < 0x60+32*4; at += 4 {
		put(at, 1)
	}
	put(512, 1)
	put(512+8, 1)
	put(512+16, 1) // the next page is this one
	b[512+25] = 13 // type: hash
	return string(b)
}

// sqliteOf is a database of SQLite whose schema is one statement.
func sqliteOf(kind, name, sql string) string {
	const size = 512
	b := make([]byte, size)
	copy(b, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(b[16:], size)
	b[18], b[19], b[21], b[22], b[23] = 1, 1, 64, 32, 32
	binary.BigEndian.PutUint32(b[24:], 1) // changes
	binary.BigEndian.PutUint32(b[28:], 1) // pages
	binary.BigEndian.PutUint32(b[40:], 1) // schema cookie
	binary.BigEndian.PutUint32(b[44:], 4) // schema format
	binary.BigEndian.PutUint32(b[56:], 1) // UTF-8
	binary.BigEndian.PutUint32(b[92:], 1)
	binary.BigEndian.PutUint32(b[96:], 3_040_000)
	varint := func(n int) []byte {
		if n < 128 {
			return []byte{byte(n)}
		}
		return []byte{byte(n>>7) | 0x80, byte(n & 0x7f)}
	}
	var types, values []byte
	for _, text := range []string{kind, name, name} {
		types, values = append(types, varint(13+2*len(text))...), append(values, text...)
	}
	types = append(types, 8) // the integer 0
	types, values = append(types, varint(13+2*len(sql))...), append(values, sql...)
	record := append(append(varint(len(types)+1), types...), values...)
	cell := append(append(varint(len(record)), 1), record...)
	at := size - len(cell)
	copy(b[at:], cell)
	b[100] = 13 // a leaf of a table
	binary.BigEndian.PutUint16(b[103:], 1)
	binary.BigEndian.PutUint16(b[105:], uint16(at))
	binary.BigEndian.PutUint16(b[108:], uint16(at))
	return string(b)
}

// longManifest is a jar whose manifest is one line of so many MiB.
func longManifest(t *testing.T, mib int) string {
	t.Helper()
	var block, deflated bytes.Buffer
	w, err := flate.NewWriter(&block, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	if _, err := w.Write(chunk); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	first := "Manifest-Version: 1.0\nX: "
	deflated.Write([]byte{0, byte(len(first)), 0, ^byte(len(first)), 0xff}) // stored
	deflated.WriteString(first)
	for range mib {
		deflated.Write(block.Bytes()) // each refers to what is before it in the same way
	}
	deflated.WriteString("\x01\x00\x00\xff\xff") // the last block
	const name = "META-INF/MANIFEST.MF"
	size := uint32(len(first) + mib<<20)
	var zip bytes.Buffer
	le := binary.LittleEndian
	header := le.AppendUint16(nil, 20)
	header = le.AppendUint16(header, 0)
	header = le.AppendUint16(header, 8) // deflate
	header = le.AppendUint32(header, 0)
	header = le.AppendUint32(header, crc32.ChecksumIEEE([]byte(first)))
	header = le.AppendUint32(header, uint32(deflated.Len()))
	header = le.AppendUint32(header, size)
	header = le.AppendUint16(header, uint16(len(name)))
	header = le.AppendUint16(header, 0)
	zip.WriteString("PK\x03\x04")
	zip.Write(header)
	zip.WriteString(name)
	zip.Write(deflated.Bytes())
	directory := zip.Len()
	zip.WriteString("PK\x01\x02\x14\x00")
	zip.Write(header)
	zip.Write(make([]byte, 14))
	zip.WriteString(name)
	end := zip.Len()
	zip.WriteString("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00")
	zip.Write(le.AppendUint32(le.AppendUint32(nil, uint32(end-directory)), uint32(directory)))
	zip.Write([]byte{0, 0})
	return zip.String()
}

// apkOf is an apk database of n packages.
func apkOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "P:p%d\nV:1.0-r0\nA:x86_64\no:p%d\n\n", i, i)
	}
	return b.String()
}

// linksOf is an archive of symbolic links, each followed by where it leads.
func linksOf(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Linkname: pairs[i+1], Typeflag: tar.TypeSymlink}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Layers made to kill or to occupy whoever reads them. None harms the server,
// each job ends soon, an ordinary image beside them is indexed, and what could
// not be read is on record.
func TestHostileScans(t *testing.T) {
	t.Parallel()
	release := func(id string) map[string]string {
		return map[string]string{"etc/os-release": "ID=" + id + "\nVERSION_ID=3.19.1\n"}
	}
	with := func(files map[string]string, name, content string) map[string]string {
		files[name] = content
		return files
	}
	good := tarOf(t, alpineWith("busybox", "1.36.1-r5"))
	mux := http.NewServeMux()
	mux.Handle("/good", serveBytes(good))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	ordinary := Layer{Digest: digestOf(good), URI: srv.URL + "/good"}
	rigWith := func(timeout time.Duration, memory int64) *rig {
		return newPlace(t).newRig(t, func(o *Options) {
			o.Scans = sandbox.Limits{Timeout: timeout, Memory: memory}
		}).run(t)
	}
	greedy, endless := rigWith(time.Minute, 512<<20), rigWith(4*time.Second, 512<<20)
	roomy := rigWith(time.Minute, 4<<30) // under the race detector packages take several times the memory
	t.Run("layers", func(t *testing.T) { // waits for all
		for name, tc := range map[string]struct {
			layer    []byte
			packages int    // found all the same
			warning  string // among the warnings; "" if nothing is unread
			rig      *rig
		}{
			"os-release leads to itself":     {linksOf(t, "etc/os-release", "os-release"), 0, "", greedy},
			"usr os-release leads to itself": {linksOf(t, "etc/os-release", "../usr/lib/os-release", "usr/lib/os-release", "../../etc/os-release"), 0, "", greedy},
			"apk database leads to itself":   {linksOf(t, "lib/apk/db/installed", "/lib/apk/db/installed"), 0, "", greedy},
			"a file 20,000 directories deep": {tarOf(t, map[string]string{strings.Repeat("d/", 20_000) + "f": ""}), 0, "", greedy},
			"bdb pages in a circle":          {tarOf(t, with(release("rhel"), "var/lib/rpm/Packages", bdbLoop())), 0, "rpm could not read layer", endless},
			"sqlite zeroblob": {tarOf(t, with(release("fedora"), "var/lib/rpm/rpmdb.sqlite", sqliteOf("view", "Packages",
				"CREATE VIEW Packages(hnum, blob) AS SELECT 1, zeroblob(999999999)"))), 0, "rpm could not read layer", greedy},
			// What is not rpm's is found all the same.
			"sqlite endless view": {tarOf(t, with(with(release("fedora"),
				"srv/node_modules/left-pad/package.json", `{"name":"left-pad","version":"1.0.0"}`), "var/lib/rpm/rpmdb.sqlite", sqliteOf("view", "Packages",
				"CREATE VIEW Packages(hnum, blob) AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x, '' FROM c"))), 1, "rpm could not read layer", endless},
			"jar with a 3 GiB line": {tarOf(t, with(release("alpine"), "srv/app.jar", longManifest(t, 3<<10))), 0, "java could not read layer", endless},
			"200,000 apk packages":  {tarOf(t, with(release("alpine"), "lib/apk/db/installed", apkOf(200_000))), 0, "more than 50000", roomy},
			"broken rpm database": {tarOf(t, with(release("fedora"), "var/lib/rpm/rpmdb.sqlite",
				"SQLite format 3\x00"+strings.Repeat("broken", 200))), 0, "rpm could not read layer", greedy},
			"NUL in a package.json": {tarOf(t, with(with(alpineWith("musl", "1.2.4-r1"),
				"srv/node_modules/left-pad/package.json", `{"name":"left-pad","version":"1.0.0"}`),
				"srv/node_modules/nul/package.json", `{"name":"nul\u0000","version":"1.0.0"}`)), 2, "1 of what it found there can't be stored", greedy},
			"endless name": {tarOf(t, with(alpineWith("musl", "1.2.4-r1"), "srv/node_modules/long/package.json",
				`{"name":"`+strings.Repeat("ab4", 3000)+`","version":"1.0.0"}`)), 1, "1 of what it found there can't be stored", greedy},
		} {
			packed := gzipped(t, tc.layer)
			path := "/" + strings.ReplaceAll(name, " ", "-")
			mux.Handle(path, serveBytes(packed))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := tc.rig
				hostile := Layer{Digest: digestOf(packed), URI: srv.URL + path}
				manifest := func(kind string, layers ...Layer) *Manifest {
					return &Manifest{Digest: digestOf([]byte(t.Name() + kind)), Layers: layers}
				}
				start := time.Now()
				bad := r.submit(t, Request{Manifest: manifest("bad", hostile)})
				img := r.wait(t, bad.Digest)
				t.Logf("%s after %v with %d packages: %s %q", img.State, time.Since(start).Round(time.Millisecond), img.Packages, img.Reason, img.Warnings)
				if img.State != StateIndexed || img.Packages != tc.packages {
					t.Fatalf("the image is %s with %d packages: %s", img.State, img.Packages, img.Reason)
				}
				unread, err := r.unreadOf(t.Context(), spec{Layers: []specLayer{{Hash: hostile.Digest}}})
				if err != nil || (len(unread) > 0) != (tc.warning != "") {
					t.Errorf("on record: %+v, %v", unread, err)
				}
				if tc.warning != "" && !strings.Contains(strings.Join(img.Warnings, "\n"), tc.warning) {
					t.Errorf("no warning with %q: %q", tc.warning, img.Warnings)
				}
				// The same layer in another image costs no child any more.
				again := r.wait(t, r.submit(t, Request{Manifest: manifest("again", hostile, ordinary)}).Digest)
				if again.State != StateIndexed || again.Packages < 1 || len(again.Warnings) != len(img.Warnings) {
					t.Errorf("again: %s with %d packages, %q", again.State, again.Packages, again.Warnings)
				}
			})
		}
		for name, r := range map[string]*rig{"greedy": greedy, "endless": endless} {
			t.Run("ordinary beside "+name, func(t *testing.T) {
				t.Parallel()
				img := r.wait(t, r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte(t.Name())), Layers: []Layer{ordinary}}}).Digest)
				if img.State != StateIndexed || img.Packages != 1 || len(img.Warnings) > 0 {
					t.Errorf("it is %s with %d packages, %q: %s", img.State, img.Packages, img.Warnings, img.Reason)
				}
			})
		}
	})
	for _, r := range []*rig{greedy, endless} {
		r.stop()
		if left, err := filepath.Glob(filepath.Join(r.opts.DataDir, "scans", "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}
