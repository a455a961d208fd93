package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus/bustest"
	demoimage "tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// TestUploadsWithoutASharedVolume uploads an image's layers to one process and has
// another index it: they have PostgreSQL and NATS in common, and nothing else.
func TestUploadsWithoutASharedVolume(t *testing.T) {
	t.Parallel()
	built, err := demoimage.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	layout := built.Ref[len("oci:"):]
	img := readLayout(t, layout, "")
	key := make([]byte, 32)
	rand.Read(key)
	shared := fmt.Sprintf("database: {url: %q}\nnats: {url: %q}\nsecrets: {keys: [%q]}\n",
		postgrestest.New(t).Config().ConnString(), bustest.NewServer(t).URL(), base64.StdEncoding.EncodeToString(key))
	process := func(roles string) *server {
		s := newServerOn(t, shared+"roles: ["+roles+"]\n")
		s.env = []string{"TOCSIN_INDEXER_SHARED_UPLOADS=256MiB"}
		s.start()
		return s
	}
	front := process("notifier")
	process("indexer, matcher")
	for i, l := range img.Layers {
		f, err := os.Open(filepath.Join(layout, "blobs", "sha256", hexOf(l.Hash)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+front.addr.API+"/api/v1/layers/"+l.Hash, f)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+front.token())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			t.Fatalf("upload: %s", resp.Status)
		}
		img.Layers[i].URI = ""
	}
	front.call("POST", "/api/v1/images", map[string]any{"manifest": map[string]any{"hash": img.Digest, "layers": img.Layers}, "names": []string{img.Name}}, nil)
	eventually(t, 2*time.Minute, "the image", func() (bool, string) {
		var i struct{ State, Reason string }
		front.call("GET", "/api/v1/images/"+img.Digest, nil, &i)
		return i.State == "indexed", i.State + " " + i.Reason
	})
}
