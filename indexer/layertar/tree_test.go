package layertar

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quay/claircore/pkg/tarfs"
)

// archive makes a tar archive of headers; regular files get their size in the
// first letters of their comment, or zeros.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := h.Uname
		h.Uname = ""
		if content != "" {
			h.Size = int64(len(content))
		}
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if content == "" {
			content = string(make([]byte, h.Size))
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func reg(name, content string) tar.Header {
	return tar.Header{Name: name, Uname: content, Typeflag: tar.TypeReg}
}

func sized(name string, size int64) tar.Header {
	return tar.Header{Name: name, Size: size, Typeflag: tar.TypeReg}
}

func link(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
}

func hard(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
}

func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }

// edited changes the first header of an archive, and mends its checksum.
func edited(b []byte, change func(header []byte)) []byte {
	b = bytes.Clone(b)
	change(b[:512])
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func withSize(b []byte, size []byte) []byte {
	return edited(b, func(h []byte) { copy(h[124:136], size) })
}

func binarySize(n int64) []byte {
	out := bytes.Repeat([]byte{byte(n >> 63)}, 12)
	binary.BigEndian.PutUint64(out[4:], uint64(n))
	out[0] |= 0x80
	return out
}

// v7 takes the magic of every header away.
func v7(b []byte) []byte {
	var out []byte
	for len(b) >= 512 {
		if !bytes.HasPrefix(b[257:], []byte("ustar")) {
			return append(out, b...)
		}
		b = edited(b, func(h []byte) { clear(h[257:512]) })
		n, _ := number(b[124:136])
		next := 512 + int(n+511)/512*512
		out, b = append(out, b[:next]...), b[next:]
	}
	return append(out, b...)
}

// sizeInPax is an archive of one file whose size is in the extended header alone.
func sizeInPax(name, content string) []byte {
	b := func() []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Typeflag: tar.TypeReg, Mode: 0o644})
		_, _ = io.WriteString(w, content)
		_ = w.Close()
		return buf.Bytes()
	}()
	record := fmt.Sprintf("%d size=%d\n", 0, len(content))
	for {
		next := fmt.Sprintf("%d size=%d\n", len(record), len(content))
		if next == record {
			break
		}
		record = next
	}
	head := withSize(b, []byte(fmt.Sprintf("%011o\x00", len(record))))
	head = edited(head, func(h []byte) { h[156] = 'x' })[:512]
	return append(append(head, append([]byte(record), make([]byte, 512-len(record))...)...), withSize(b, []byte("00000000000\x00"))...)
}

func read(t testing.TB, b []byte, entries int) (*Tree, error) {
	t.Helper()
	return Read(bytes.NewReader(b), int64(len(b)), Limits{Entries: entries, Bytes: 1 << 30, File: func(name string) int64 {
		if strings.HasSuffix(name, "small") {
			return 100
		}
		return 1 << 40
	}})
}

// implied are files in n directories of their own that have no entries.
func implied(n int) []tar.Header {
	out := make([]tar.Header, n)
	for i := range out {
		out[i] = sized(fmt.Sprintf("%d/f", i), 0)
	}
	return out
}

func many(n int) (hs []tar.Header) {
	for i := range n {
		hs = append(hs, sized(fmt.Sprint(i), 0))
	}
	return hs
}

// Each archive is read as GNU tar extracts it, and what is written anew, by
// claircore's reader, too.
func TestAsTar(t *testing.T) {
	t.Parallel()
	gnu, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar here")
	}
	plain := archive(t, reg("a", strings.Repeat("a", 1000)), reg("b", ""))
	for name, tc := range map[string]struct {
		archive []byte
		odd     bool
	}{
		"files":           {plain, false},
		"empty":           {archive(t), false},
		"without its end": {plain[:2*1024], false},
		"all kinds": {archive(t, dir("d/"), reg("d/f", "hello"), link("l", "d/f"), hard("h", "d/f"),
			tar.Header{Name: "p", Typeflag: tar.TypeFifo}, link("abs", "d")), false},
		"long names":                   {archive(t, reg(strings.Repeat("n", 200), "12345"), link(strings.Repeat("m", 200), strings.Repeat("n", 200))), false},
		"a global header":              {archive(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, reg("a", "1")), false},
		"a file over another":          {archive(t, reg("a", "1"), reg("a", "two")), true},
		"a file over a link":           {archive(t, reg("b", "1"), link("a", "b"), reg("a", "22")), true},
		"a link over a file":           {archive(t, reg("b", "1"), reg("a", "22"), link("a", "b")), true},
		"a link twice":                 {archive(t, dir("u"), link("a", "u"), link("a", "u")), true},
		"a directory over a file":      {archive(t, reg("a", "1"), dir("a"), reg("a/b", "2")), true},
		"a directory over a link":      {archive(t, dir("u"), link("a", "u"), dir("a"), reg("a/b", "2")), true},
		"a directory twice":            {archive(t, dir("d"), reg("d/a", "1"), dir("d"), reg("d/b", "2")), false},
		"through a link":               {archive(t, dir("u"), link("a", "u"), reg("a/b", "2")), false},
		"a hard link to what changes":  {archive(t, reg("f", "1"), hard("g", "f"), reg("f", "22")), true},
		"a hard link twice":            {archive(t, reg("f", "1"), hard("g", "f"), hard("g", "f")), false},
		"v7":                           {v7(archive(t, dir("opt"), reg("opt/f", "12"), reg("opt/g", "x"))), true},
		"size in the extended header":  {append(sizeInPax("w", strings.Repeat("w", 1500))[:512*6], plain...), true},
		"a lone block of zeros":        {append(append(bytes.Clone(plain[:3*512]), make([]byte, 512)...), plain...), true},
		"odd bytes in names":           {archive(t, tar.Header{Name: "caf\xe9/na\xefve", Typeflag: tar.TypeReg, Format: tar.FormatGNU}), false},
		"a hard link with a size":      {append(bytes.Clone(archive(t, reg("f", "1"))[:1024]), withSize(archive(t, hard("g", "f")), []byte("00000001274\x00"))...), true},
		"directories without entries":  {archive(t, implied(2000)...), true},
		"two links, one to the other":  {archive(t, dir("x"), link("a", "x"), link("b", "a"), reg("b/f", "1")), false},
		"a file where a directory was": {archive(t, dir("a"), reg("a", "1")), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, err := read(t, tc.archive, 100_000)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Odd() != tc.odd {
				t.Errorf("odd: %t", tree.Odd())
			}
			place := t.TempDir()
			cmd := exec.Command(gnu, "-x", "--no-same-owner", "-C", place)
			cmd.Stdin = bytes.NewReader(tc.archive)
			if out, err := cmd.CombinedOutput(); err != nil && name != "without its end" {
				t.Fatalf("tar: %v: %s", err, out)
			}
			want := map[string]string{}
			if err := filepath.WalkDir(place, func(p string, d fs.DirEntry, err error) error {
				if err != nil || p == place {
					return err
				}
				rel, _ := filepath.Rel(place, p)
				switch {
				case d.IsDir():
					want[rel] = "directory"
				case d.Type() == fs.ModeSymlink:
					to, err := os.Readlink(p)
					want[rel] = "to " + to
					return err
				case d.Type().IsRegular():
					b, err := os.ReadFile(p)
					want[rel] = "file " + string(b)
					return err
				default:
					want[rel] = "other"
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			var clean bytes.Buffer
			if err := tree.Write(&clean, nil); err != nil {
				t.Fatal(err)
			}
			got := contents(t, clean.Bytes())
			if !maps.Equal(got, want) {
				t.Errorf("got %.2000q\nwant %.2000q", got, want)
			}
			read := clean.Bytes()
			if !tc.odd {
				read = tc.archive
			}
			sys, err := tarfs.New(bytes.NewReader(read))
			if err != nil {
				t.Fatalf("tarfs: %v", err)
			}
			for name, what := range want {
				text, ok := strings.CutPrefix(what, "file ")
				if !ok || strings.Contains(name, "\xe9") {
					continue
				}
				if b, err := fs.ReadFile(sys, name); err != nil || string(b) != text {
					t.Errorf("tarfs reads %s as %.100q, %v, want %.100q", name, b, err, text)
				}
			}
			again, err := Read(bytes.NewReader(clean.Bytes()), int64(clean.Len()), Limits{Entries: 100_000, Bytes: 1 << 30, File: func(string) int64 { return 1 << 40 }})
			if err != nil || again.Odd() {
				t.Errorf("what is written is odd: %v, %v", again, err)
			}
		})
	}
}

// contents are the names in a clean archive and what is there.
func contents(t *testing.T, b []byte) map[string]string {
	t.Helper()
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if _, twice := got[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			got[name] = "directory"
		case tar.TypeSymlink:
			got[name] = "to " + h.Linkname
		case tar.TypeLink:
			got[name] = got[h.Linkname]
		case tar.TypeReg:
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = "file " + string(content)
		default:
			got[name] = "other"
		}
	}
}

// What would harm claircore's reader is cut; the rest stays.
func TestCut(t *testing.T) {
	t.Parallel()
	for name, hs := range map[string][]tar.Header{
		"link to itself":         {link("a", "a")},
		"links in a circle":      {link("a", "b"), link("b", "c"), link("c", "a")},
		"circle in a folder":     {link("d/a", "../d/./b"), link("d/b", "/d/a")},
		"release":                {link("etc/os-release", "../usr/lib/os-release"), link("usr/lib/os-release", "../../etc/os-release")},
		"circle of directories":  {link("etc/user", "/xdg/user/x"), link("xdg/user", "../etc/user/y")},
		"20,000 directories":     {reg(strings.Repeat("d/", 20_000)+"f", "")},
		"a name of 10,000":       {reg(strings.Repeat("d", 10_000), "")},
		"in a link to itself":    {link("a", "a"), reg("a/f", "1")},
		"depth through links":    {dir(strings.Repeat("d/", 400)), link("l", strings.Repeat("d/", 400)), reg("l/"+strings.Repeat("e/", 400)+"f", "1")},
		"a file in a linked one": {reg("f", "1"), link("a", "f"), reg("a/g", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			tree, err := read(t, archive(t, append(hs, reg("keep", "x"), link("fine", "keep"), link("missing", "nowhere"))...), 100_000)
			if err != nil || !tree.Odd() {
				t.Fatalf("%+v, %v", tree, err)
			}
			var clean bytes.Buffer
			if err := tree.Write(&clean, nil); err != nil {
				t.Fatal(err)
			}
			got := contents(t, clean.Bytes())
			if got["keep"] != "file x" || got["fine"] != "to keep" || got["missing"] != "to nowhere" {
				t.Errorf("left is %q", got)
			}
			sys, err := tarfs.New(bytes.NewReader(clean.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			// Opening everything ends.
			for name := range got {
				if f, err := sys.Open(name); err == nil {
					f.Close()
				}
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	plain := archive(t, sized("a", 1000), sized("b", 0))
	var deep []tar.Header
	for i := range 600 {
		deep = append(deep, sized(fmt.Sprintf("%d/%sz", i, strings.Repeat("a/", 1500)), 0))
	}
	for name, tc := range map[string]struct {
		archive []byte
		hint    string
	}{
		"garbage":              {bytes.Repeat([]byte("garbage!"), 500), "not a tar archive"},
		"short garbage":        {[]byte("garbage"), "not a tar archive"},
		"cut off in a file":    {plain[:700], "not a tar archive"}, // without one whole entry nobody can tell
		"cut off later":        {archive(t, sized("a", 10), sized("b", 5000))[:3000], "cut off"},
		"garbage after a file": {append(bytes.Clone(archive(t, sized("a", 10))[:1024]), bytes.Repeat([]byte("garbage!"), 200)...), "damaged"},
		"negative size":        {append(bytes.Clone(archive(t, sized("x", 10))[:1024]), withSize(plain, binarySize(-1024))...), "no number"},
		"huge size":            {append(bytes.Clone(archive(t, sized("x", 10))[:1024]), withSize(plain, binarySize(1<<62))...), "cut off"},
		"size of letters":      {append(bytes.Clone(archive(t, sized("x", 10))[:1024]), withSize(plain, []byte("zzzzzzzzzzz\x00"))...), "no number"},
		"deep names":           {archive(t, deep...), "more than"},
		"many files":           {archive(t, many(1001)...), "limit of 1000 entries"},
		"a file over its kind": {archive(t, sized("is/small", 101)), "at most 100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := read(t, tc.archive, 1000); err == nil || !strings.Contains(err.Error(), tc.hint) {
				t.Errorf("got %v, want an error with %q", err, tc.hint)
			}
		})
	}
}

func TestSkip(t *testing.T) {
	t.Parallel()
	tree, err := read(t, archive(t, reg("db", "1"), hard("again", "db"), reg("keep", "2")), 100)
	if err != nil {
		t.Fatal(err)
	}
	is := func(name string) bool { return name == "db" || name == "again" }
	if !tree.Has(is) || tree.Has(func(name string) bool { return name == "other" }) {
		t.Error("Has is wrong")
	}
	for range 2 {
		var clean bytes.Buffer
		if err := tree.Write(&clean, is); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, clean.Bytes()); len(got) != 1 || got["keep"] != "file 2" {
			t.Errorf("left is %q", got)
		}
	}
}

// Whatever bytes there are: no panic, and what is written is read alike.
func FuzzRead(f *testing.F) {
	f.Add(archive(f, dir("d"), reg("d/f", "x"), link("l", "d"), hard("h", "d/f")))
	f.Add(sizeInPax("w", "content"))
	f.Add(v7(archive(f, reg("a", "1"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := read(t, b, 1000)
		if err != nil {
			return
		}
		var clean bytes.Buffer
		if err := tree.Write(&clean, nil); err != nil {
			return
		}
		again, err := Read(bytes.NewReader(clean.Bytes()), int64(clean.Len()), tree.limits)
		if err != nil || again.Odd() {
			t.Errorf("what is written can't be read: %v", err)
		}
	})
}
