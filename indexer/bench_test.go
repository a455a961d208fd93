package indexer

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/indexer/sandbox"
)

// inProcess scans layers in this process, each read once, as was done before
// there were children: the measure of what they cost.
func inProcess(b *testing.B, r *rig) (scan func(context.Context, *claircore.Layer, sandbox.Request) (sandbox.Result, error), done func()) {
	setup, err := newSetup(r.opts.Scanners)
	if err != nil {
		b.Fatal(err)
	}
	scanner, err := newScanner(b.Context(), setup)
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	opened := map[string]*claircore.Layer{}
	open := func(ctx context.Context, digest string) (*claircore.Layer, error) {
		mu.Lock()
		defer mu.Unlock()
		if l := opened[digest]; l != nil {
			return l, nil
		}
		r.arena.mu.Lock()
		s := r.arena.spools[digest]
		r.arena.mu.Unlock()
		l := new(claircore.Layer)
		desc := claircore.LayerDescription{Digest: digest, MediaType: "application/vnd.oci.image.layer.v1.tar"}
		if err := l.Init(ctx, &desc, s.file); err != nil {
			return nil, err
		}
		opened[digest] = l
		return l, nil
	}
	return func(ctx context.Context, l *claircore.Layer, req sandbox.Request) (sandbox.Result, error) {
			read, err := open(ctx, l.Hash.String())
			if err != nil {
				return sandbox.Result{}, err
			}
			return scanner(ctx, req, read)
		}, func() {
			for d, l := range opened {
				if err := l.Close(); err != nil {
					b.Error(err)
				}
				delete(opened, d)
			}
		}
}

// BenchmarkIndex indexes the images of the fixtures, every time as new ones,
// with scans in this process and in children by turns. Its last line compares
// the fastest of both.
func BenchmarkIndex(b *testing.B) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "shared", "fixtures", "images"))
	if err != nil {
		b.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		b.Skip("no fixtures here")
	}
	var plain [][][]byte // layers of images
	for _, e := range list {
		images, err := image.Open("oci:"+filepath.Join(dir, e.Name()), nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, img := range images {
			var layers [][]byte
			for _, l := range img.Layers {
				layers = append(layers, unpacked(b, l))
			}
			plain = append(plain, layers)
		}
	}
	var served sync.Map // content by path
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := served.Load(r.URL.Path)
		w.Write(content.([]byte))
	}))
	b.Cleanup(srv.Close)
	r := newPlace(b).newRig(b, nil)
	b.Cleanup(func() { r.children.Close() })
	if err := r.children.Warm(); err != nil {
		b.Fatal(err)
	}
	scan, done := inProcess(b, r)
	n := uint64(0)
	round := func() time.Duration {
		var digests []string
		for _, layers := range plain {
			n++
			m := &Manifest{Digest: digestOf(binary.BigEndian.AppendUint64(nil, n))}
			for i, l := range layers {
				// What follows the end of an archive makes it another layer.
				l = slices.Concat(l, make([]byte, 1024), binary.BigEndian.AppendUint64(nil, n<<16|uint64(i)))
				d := digestOf(l)
				served.Store("/"+d, l)
				m.Layers = append(m.Layers, Layer{Digest: d, URI: srv.URL + "/" + d})
			}
			if _, err := r.Submit(b.Context(), Request{Manifest: m}); err != nil {
				b.Fatal(err)
			}
			digests = append(digests, m.Digest)
		}
		start := time.Now()
		for _, d := range digests {
			if err := r.index(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
		took := time.Since(start)
		served.Clear()
		return took
	}
	children, here := time.Hour, time.Hour
	for b.Loop() {
		r.confined.scan = r.arena.scan
		children = min(children, round())
		r.confined.scan = scan
		here = min(here, round())
		done()
	}
	b.ReportMetric(0, "ns/op")
	fmt.Printf("index of %d images: %v with scans in children, %v in this process: %.2f times\n",
		len(plain), children.Round(time.Millisecond), here.Round(time.Millisecond), float64(children)/float64(here))
}

// unpacked reads a layer and its compression away.
func unpacked(b *testing.B, l image.Layer) []byte {
	b.Helper()
	f, err := l.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		b.Fatal(err)
	}
	if !strings.Contains(l.MediaType, "gzip") {
		return content
	}
	z, err := gzip.NewReader(bytes.NewReader(content))
	if err == nil {
		content, err = io.ReadAll(z)
	}
	if err != nil {
		b.Fatal(err)
	}
	return content
}
