package blobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func put(t *testing.T, s *Store, content string) string {
	t.Helper()
	d := digest.FromString(content).String()
	if _, err := s.Put(t.Context(), d, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

// age makes a blob look unused for a day.
func age(t *testing.T, s *Store, d string) {
	t.Helper()
	path, _, err := s.path(d)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPutAndOpen(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for _, d := range []digest.Digest{digest.FromString("one"), digest.SHA512.FromString("one")} {
		if _, err := s.Open(t.Context(), d.String()); !errors.Is(err, ErrNotFound) {
			t.Fatalf("Open before Put = %v, want ErrNotFound", err)
		}
		b, err := s.Put(t.Context(), d.String(), strings.NewReader("one"))
		if err != nil || b.Size != 3 || b.Digest != d.String() {
			t.Fatalf("Put = %+v, %v", b, err)
		}
		f, err := s.Open(t.Context(), d.String())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || string(got) != "one" {
			t.Errorf("read %q, %v", got, err)
		}
		// What is there is not read again.
		if _, err := s.Put(t.Context(), d.String(), iotestErr{}); err != nil {
			t.Errorf("second Put = %v, want nil", err)
		}
		if uri := URI(d.String()); uri != "tocsin-blob:"+d.String() {
			t.Errorf("URI = %s", uri)
		} else if back, ok := FromURI(uri); !ok || back != d.String() {
			t.Errorf("FromURI = %s, %t", back, ok)
		}
	}
	if _, ok := FromURI("https://example.com/"); ok {
		t.Error("FromURI took a URL")
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxBlob: 10})
	good := digest.FromString("x").String()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx    context.Context
		digest string
		r      io.Reader
		want   error
	}{
		"other content":  {t.Context(), good, strings.NewReader("y"), ErrDigest},
		"empty":          {t.Context(), good, strings.NewReader(""), ErrDigest},
		"not a digest":   {t.Context(), "../../etc/passwd", strings.NewReader("x"), ErrDigest},
		"path in digest": {t.Context(), "sha256:../../../etc/passwd", strings.NewReader("x"), ErrDigest},
		"algorithm":      {t.Context(), digest.SHA384.FromString("x").String(), strings.NewReader("x"), ErrDigest},
		"upper case":     {t.Context(), "sha256:" + strings.ToUpper(strings.TrimPrefix(good, "sha256:")), strings.NewReader("x"), ErrDigest},
		"too large":      {t.Context(), good, endless{}, ErrTooLarge},
		"cut off":        {t.Context(), good, iotestErr{}, io.ErrUnexpectedEOF},
		"cancelled":      {cancelled, good, strings.NewReader("x"), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Put(tc.ctx, tc.digest, tc.r); !errors.Is(err, tc.want) {
				t.Errorf("Put = %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := s.Stat(t.Context(), good); !errors.Is(err, ErrNotFound) {
		t.Errorf("after refused uploads Stat = %v, want ErrNotFound", err)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, "partial")); err != nil || len(left) != 0 {
		t.Errorf("refused uploads left %v, %v", left, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

func TestFull(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxTotal: 5})
	put(t, s, "12345")
	if _, err := s.Put(t.Context(), digest.FromString("6").String(), strings.NewReader("6")); !errors.Is(err, ErrFull) {
		t.Errorf("Put into a full store = %v, want ErrFull", err)
	}
}

func TestPutConcurrently(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := strings.Repeat("z", 1<<20)
	d := digest.FromString(content).String()
	var wg sync.WaitGroup
	for range 8 {
		s, err := New(dir, Options{}) // as several processes have it
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := s.Put(t.Context(), d, strings.NewReader(content)); err != nil {
				t.Error(err)
			}
			f, err := s.Open(t.Context(), d)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if got, err := io.ReadAll(f); err != nil || string(got) != content {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxTotal: 1 << 20})
	fresh, stale, reindex, pending := put(t, s, "fresh"), put(t, s, "stale"), put(t, s, "reindex"), put(t, s, "pending")
	for _, d := range []string{stale, reindex, pending} {
		age(t, s, d)
	}
	left := filepath.Join(s.dir, "partial", "upload-left")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-2 * grace)
	if err := os.Chtimes(left, then, then); err != nil {
		t.Fatal(err)
	}
	need := func(_ context.Context, ds []string) (map[string]Need, error) {
		if len(ds) > 4 {
			t.Errorf("asked about %d blobs", len(ds))
		}
		return map[string]Need{reindex: Reindex, pending: Pending}, nil
	}
	check := func(want map[string]bool) {
		t.Helper()
		for d, ok := range want {
			path, _, err := s.path(d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); (err == nil) != ok {
				t.Errorf("%s: %v, want present %t", d, err, ok)
			}
		}
	}
	if n, err := s.Sweep(t.Context(), need); err != nil || n != 1 {
		t.Errorf("Sweep = %d, %v; want 1", n, err)
	}
	check(map[string]bool{fresh: true, stale: false, reindex: true, pending: true})
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the interrupted upload is still there: %v", err)
	}

	s.opts.MaxTotal = 1 // now over the limit
	age(t, s, fresh)
	if n, err := s.Sweep(t.Context(), need); err != nil || n != 2 {
		t.Errorf("Sweep when full = %d, %v; want 2", n, err)
	}
	check(map[string]bool{fresh: false, reindex: false, pending: true})

	boom := errors.New("boom")
	if _, err := s.Sweep(t.Context(), func(context.Context, []string) (map[string]Need, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("Sweep = %v, want the error of need", err)
	}
}
