package indexer

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/pkg/tarfs"
)

// archive makes a tar archive of headers; regular files get their size in
// zeros.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// withSize overwrites the size of the first header, and mends its checksum.
func withSize(b []byte, size []byte) []byte {
	b = bytes.Clone(b)
	copy(b[124:136], size)
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func binarySize(n int64) []byte {
	out := bytes.Repeat([]byte{byte(n >> 63)}, 12)
	binary.BigEndian.PutUint64(out[4:], uint64(n))
	out[0] |= 0x80
	return out
}

func checkTarOf(t *testing.T, b []byte, maxEntries int) error {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	a := &arena{limits: Limits{MaxEntries: maxEntries}}
	return a.checkTar(f, &claircore.Layer{Hash: claircore.MustParseDigest(digestOf(b)), URI: "http://example.com/"})
}

func TestCheckTar(t *testing.T) {
	t.Parallel()
	reg := func(name string, size int64) tar.Header {
		return tar.Header{Name: name, Size: size, Typeflag: tar.TypeReg}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	plain := archive(t, reg("a", 1000), reg("b", 0))
	var deep []tar.Header
	for i := range 100 {
		deep = append(deep, reg(fmt.Sprintf("%d/%sz", i, strings.Repeat("a/", 1500)), 0))
	}
	for name, tc := range map[string]struct {
		archive []byte
		hint    string
	}{
		"files":                {plain, ""},
		"empty":                {archive(t), ""},
		"nothing at all":       {nil, ""},
		"without its end":      {plain[:2*1024], ""},
		"all kinds":            {archive(t, dir("d/"), reg("d/f", 5), link("l", "d/f"), tar.Header{Name: "h", Linkname: "d/f", Typeflag: tar.TypeLink}, tar.Header{Name: "p", Typeflag: tar.TypeFifo}, link("/abs", "/d")), ""},
		"long names":           {archive(t, reg(strings.Repeat("n", 200), 5), link(strings.Repeat("m", 200), strings.Repeat("n", 200))), ""},
		"a global header":      {archive(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, reg("a", 1)), ""},
		"a file over another":  {archive(t, reg("a", 1), reg("a", 2)), ""},
		"a file over a link":   {archive(t, reg("b", 1), link("a", "b"), reg("a", 2)), ""},
		"garbage":              {bytes.Repeat([]byte("garbage!"), 500), "not a tar archive"},
		"short garbage":        {[]byte("garbage"), "not a tar archive"},
		"cut off in a file":    {plain[:700], "not a tar archive"}, // without one whole entry nobody can tell
		"cut off later":        {archive(t, reg("a", 10), reg("b", 5000))[:3000], "cut off"},
		"garbage after a file": {append(bytes.Clone(archive(t, reg("a", 10))[:1024]), bytes.Repeat([]byte("garbage!"), 200)...), "damaged"},
		"negative size":        {append(bytes.Clone(archive(t, reg("x", 10))[:1024]), withSize(plain, binarySize(-1024))...), "no number"},
		"huge size":            {append(bytes.Clone(archive(t, reg("x", 10))[:1024]), withSize(plain, binarySize(1<<62))...), "cut off"},
		"size of letters":      {append(bytes.Clone(archive(t, reg("x", 10))[:1024]), withSize(plain, []byte("zzzzzzzzzzz\x00"))...), "no number"},
		"link to itself":       {archive(t, link("a", "a"), reg("a", 1)), "in a circle"},
		"links in a circle":    {archive(t, link("a", "b"), link("b", "c"), link("c", "a"), reg("b", 1)), "in a circle"},
		"circle in a folder":   {archive(t, link("d/a", "../d/./b"), link("d/b", "/d/a"), reg("d/a", 1)), "in a circle"},
		"deep names":           {archive(t, deep...), "more than"},
		"many implied folders": {archive(t, implied(25_000)...), "no entry of their own"},
		"many files": {archive(t, func() (hs []tar.Header) {
			for i := range 1001 {
				hs = append(hs, reg(fmt.Sprint(i), 0))
			}
			return hs
		}()...), "limit of 1000 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 1000
			if strings.HasPrefix(name, "many implied") {
				limit = 1_000_000
			}
			err := checkTarOf(t, tc.archive, limit)
			if tc.hint == "" {
				if err != nil {
					t.Fatal(err)
				}
				// What passes, claircore can read.
				if _, err := tarfs.New(bytes.NewReader(tc.archive)); err != nil {
					t.Errorf("tarfs: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.hint) {
				t.Errorf("got %v, want an error with %q", err, tc.hint)
			}
		})
	}
}

// implied are files in n directories of their own that have no entries.
func implied(n int) []tar.Header {
	out := make([]tar.Header, n)
	for i := range out {
		out[i] = tar.Header{Name: fmt.Sprintf("%d/f", i), Typeflag: tar.TypeReg}
	}
	return out
}

func TestMaxFile(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int64{
		"opt/app.jar": maxArchiveBytes, "etc/os-release": maxRecordBytes, "lib/apk/db/installed": maxRecordBytes,
		"srv/package.json": maxRecordBytes, "root/buildinfo/labels.json": maxRecordBytes, "usr/bin/app": 1 << 62, "model.bin": 1 << 62,
	} {
		tr := newTree(100)
		if err := tr.add(&tar.Header{Name: name, Size: limit, Typeflag: tar.TypeReg}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tr.add(&tar.Header{Name: name, Size: limit + 1, Typeflag: tar.TypeReg}); err == nil {
			t.Errorf("%s of %d bytes passed", name, limit+1)
		}
	}
}
