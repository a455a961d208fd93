package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quay/claircore"
)

func TestMain(m *testing.M) {
	Main(func(context.Context, []byte) (Scanner, error) { return misbehave, nil })
	os.Exit(m.Run())
}

var kept [][]byte

// misbehave is a scanner that does what its name says.
func misbehave(ctx context.Context, r Request, l *claircore.Layer) (Result, error) {
	switch r.Name {
	case "find":
		return Result{Packages: []*claircore.Package{
			{Name: "p", Version: "1", PackageDB: "db", Filepath: "f", Source: &claircore.Package{Name: "s"}, NormalizedVersion: claircore.Version{Kind: "k", V: [10]int32{1}}},
		}, Files: []claircore.File{{Path: "x", Kind: claircore.FileKindWhiteout}}}, nil
	case "hang":
		for {
			_ = bytes.Repeat([]byte("x"), 10)
		}
	case "recurse":
		return Result{}, errors.New(strings.Repeat("x", recurse(0)))
	case "hoard":
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "exit":
		os.Exit(0)
	case "panic":
		panic("on purpose")
	case "panic elsewhere":
		go panic("on purpose")
		select {}
	case "many":
		return Result{Packages: slices.Repeat([]*claircore.Package{{Name: "p"}}, maxFound+1)}, nil
	case "fill":
		f, err := os.CreateTemp("", "")
		if err != nil {
			return Result{}, err
		}
		_ = os.Remove(f.Name())
		for {
			if _, err := f.Write(make([]byte, 1<<20)); err != nil {
				return Result{}, err
			}
		}
	case "litter":
		_, err := os.CreateTemp("", "litter-")
		return Result{}, err
	case "open":
		for {
			// Without a finalizer that would close it.
			if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
				return Result{}, err
			}
		}
	case "fail":
		return Result{}, errors.New("it is broken")
	case "no space":
		return Result{}, fmt.Errorf("write: %w", syscall.ENOSPC)
	case "ask":
		if r.Mapping == "" {
			return Result{}, fmt.Errorf("scan: %w", ErrAsk)
		}
		return Result{Files: []claircore.File{{Path: r.Mapping}}}, nil
	case "secrets":
		return Result{}, errors.New(strings.Join(os.Environ(), " "))
	}
	return Result{}, nil
}

func recurse(n int) int {
	var pad [256]byte
	pad[n%256] = 1
	//lint:ignore SA5007 the stack has to overflow
	return recurse(n+1) + int(pad[3])
}

func newPool(t *testing.T, limits Limits) *Pool {
	t.Helper()
	p, err := New(Options{Dir: t.TempDir(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	dir := p.opts.Dir
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return p
}

func layerOf(t *testing.T, p *Pool) *Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	l, err := p.Layer("sha256:"+strings.Repeat("a", 64), f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Limits that a test can exceed soon: small ones, and one on time.
var (
	small = Limits{Timeout: time.Minute, Memory: 256 << 20, Disk: 64 << 20}
	brief = Limits{Timeout: 2 * time.Second}
)

func TestOutcomes(t *testing.T) {
	t.Setenv("TOCSIN_DATABASE_URL", "postgres://tocsin:s3cret@localhost/")
	p, hasty := newPool(t, small), newPool(t, brief)
	for name, want := range map[string]struct {
		text string
		kind FailureKind // 0: lost
	}{
		"hang":            {"it takes longer than 2s", 0},
		"recurse":         {"it recurses without end", 0},
		"hoard":           {"it takes more than 256 MiB of memory", 0},
		"exit":            {"its process ended", 0},
		"panic elsewhere": {"its process ended: panic: on purpose", 0},
		"panic":           {"on purpose", Panicked},
		"many":            {"more than 50000", Unreadable},
		"open":            {"too many open files", Unreadable},
		"fail":            {"it is broken", Unreadable},
		"no space":        {"no space left", Passing},
		"fill":            {"", -1},
	} {
		t.Run(name, func(t *testing.T) {
			l := layerOf(t, p)
			if name == "hang" {
				l = layerOf(t, hasty)
			}
			defer l.Close()
			_, err := l.Scan(t.Context(), Request{Kind: "package", Name: name})
			lost, isLost := errors.AsType[*LostError](err)
			failure, isFailure := errors.AsType[*Failure](err)
			switch {
			case want.kind == 0 && (!isLost || !strings.Contains(lost.Reason, want.text)):
				t.Errorf("got %v, want it lost with %q", err, want.text)
			case want.kind > 0 && (!isFailure || failure.Kind != want.kind || !strings.Contains(failure.Text, want.text)):
				t.Errorf("got %v, want failure %d with %q", err, want.kind, want.text)
			case want.kind < 0 && !(isLost && strings.Contains(lost.Reason, "to disk") || isFailure && failure.Kind == Unreadable):
				t.Errorf("got %v, want it stopped by the limit on disk", err)
			}
			// The pool goes on.
			out, err := l.Scan(t.Context(), Request{Kind: "package", Name: "find"})
			if want.text != "it recurses" && (err != nil || len(out.Packages) != 1) {
				t.Errorf("the next scan: %v, %v", out, err)
			}
		})
	}
	if _, err := layerOf(t, p).Scan(t.Context(), Request{Name: "secrets"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a child's environment: %v", err)
	}
}

// What a scanner finds arrives whole, fields that JSON leaves out included.
func TestResult(t *testing.T) {
	p := newPool(t, Limits{})
	l := layerOf(t, p)
	defer l.Close()
	out, err := l.Scan(t.Context(), Request{Name: "find"})
	if err != nil || len(out.Packages) != 1 || len(out.Files) != 1 || out.Files[0].Kind != claircore.FileKindWhiteout {
		t.Fatalf("%+v, %v", out, err)
	}
	got := *out.Packages[0]
	if got.Source == nil || got.Source.Name != "s" || got.Filepath != "f" || got.PackageDB != "db" || got.NormalizedVersion.V[0] != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := l.Scan(t.Context(), Request{Name: "ask"}); !errors.Is(err, ErrAsk) {
		t.Errorf("got %v, want ErrAsk", err)
	}
	if out, err := l.Scan(t.Context(), Request{Name: "ask", Mapping: "/map"}); err != nil || out.Files[0].Path != "/map" {
		t.Errorf("%v, %v", out, err)
	}
}

// Scans beside a hostile one, in the same child, end as if it were not there.
func TestInnocentScansSurvive(t *testing.T) {
	p := newPool(t, Limits{Timeout: 5 * time.Second, Memory: 256 << 20})
	l := layerOf(t, p)
	defer l.Close()
	var wg sync.WaitGroup
	for _, name := range []string{"hang", "find", "recurse", "find", "exit", "find", "find"} {
		wg.Go(func() {
			out, err := l.Scan(t.Context(), Request{Name: name})
			_, lost := errors.AsType[*LostError](err)
			if ok := err == nil && len(out.Packages) == 1; ok != (name == "find") || lost == ok {
				t.Errorf("%s: %v, %v", name, out, err)
			}
		})
	}
	wg.Wait()
}

// A scan whose caller has gone is ended with its child, at once.
func TestCancel(t *testing.T) {
	p := newPool(t, Limits{Timeout: time.Hour})
	l := layerOf(t, p)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := l.Scan(ctx, Request{Name: "hang"}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if out, err := l.Scan(t.Context(), Request{Name: "find"}); err != nil || len(out.Packages) != 1 {
		t.Errorf("the next: %v, %v", out, err)
	}
}

// A layer that costs one child after the other is given up as a whole.
func TestHopeless(t *testing.T) {
	p := newPool(t, small)
	l := layerOf(t, p)
	defer l.Close()
	for range maxLost {
		if _, err := l.Scan(t.Context(), Request{Name: "exit"}); err == nil {
			t.Fatal("no error")
		}
	}
	if _, err := l.Scan(t.Context(), Request{Name: "find"}); err == nil || l.lost > maxLost {
		t.Errorf("%v after %d losses", err, l.lost)
	}
}

// Files of a pool whose process was killed go with the next pool.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "scan-left", "child-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := layerOf(t, p)
	if _, err := l.Scan(t.Context(), Request{Name: "litter"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the leftover is still there: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	if _, err := l.Scan(t.Context(), Request{Name: "find"}); err == nil {
		t.Error("a closed pool scans")
	}
}

func TestReap(t *testing.T) {
	p := newPool(t, Limits{})
	a, b := layerOf(t, p), layerOf(t, p)
	for _, l := range []*Layer{a, b} {
		if _, err := l.Scan(t.Context(), Request{Name: "find"}); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	a.Close()
	p.mu.Lock()
	for _, c := range p.procs {
		c.idleSince = time.Now().Add(-time.Hour)
	}
	n := len(p.procs)
	p.mu.Unlock()
	p.Reap()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		left := len(p.procs)
		p.mu.Unlock()
		if left == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("of %d children %d are left", n, left)
		}
	}
}
