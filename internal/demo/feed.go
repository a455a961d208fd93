package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	ociimage "tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
)

// feed serves the vulnerability feed and the image's blobs.
type feed struct {
	mirror    *mirror.Mirror
	mirrorURL string
	blobURL   string
	servers   []*http.Server
}

// build builds the image.
func (d *demo) build(ctx context.Context) error {
	img, err := image.Build(ctx, d.dir)
	if err != nil {
		return err
	}
	d.image = img
	d.detail("%s  %s", image.Name, img.Digest)
	return nil
}

// serveFeed starts both servers.
func (d *demo) serveFeed(context.Context) error {
	m, err := mirror.New()
	if err != nil {
		return err
	}
	d.feed = &feed{mirror: m}
	if d.feed.mirrorURL, err = d.feed.serve(m); err != nil {
		return err
	}
	layout := strings.TrimPrefix(d.image.Ref, "oci:")
	d.feed.blobURL, err = d.feed.serve(http.FileServer(http.Dir(filepath.Join(layout, "blobs", "sha256"))))
	d.detail("feed %s, layers %s", d.feed.mirrorURL, d.feed.blobURL)
	return err
}

func (f *feed) serve(h http.Handler) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	f.servers = append(f.servers, srv)
	go srv.Serve(ln) // ends with stop
	return "http://" + ln.Addr().String() + "/", nil
}

func (f *feed) stop() {
	for _, s := range f.servers {
		s.Close()
	}
}

// message is what is published on tocsin.manifests: where the layers of the
// image are, and what people call it.
func (d *demo) message() (map[string]any, error) {
	images, err := ociimage.Open(d.image.Ref, nil)
	if err != nil {
		return nil, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("the layout has %d images", len(images))
	}
	var layers []map[string]any
	for _, l := range images[0].Layers {
		_, hex, _ := strings.Cut(l.Digest, ":")
		layers = append(layers, map[string]any{"hash": l.Digest, "uri": d.feed.blobURL + hex, "headers": map[string][]string{}})
	}
	return map[string]any{
		"manifest": map[string]any{"hash": images[0].Digest, "layers": layers},
		"names":    []string{image.Name},
		"labels":   map[string]string{"team": "demo"},
	}, nil
}
