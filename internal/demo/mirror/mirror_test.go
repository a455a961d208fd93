package mirror

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func get(t *testing.T, url, etag string) (status int, newTag string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK && res.Header.Get("Last-Modified") == "" {
		t.Error("no Last-Modified")
	}
	return res.StatusCode, res.Header.Get("ETag"), body
}

func TestMirror(t *testing.T) {
	t.Parallel()
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	if code, _, body := get(t, srv.URL+"/ecosystems.txt", ""); code != 200 || string(body) != "Go\n" {
		t.Errorf("ecosystems.txt is %d %q", code, body)
	}
	if code, _, _ := get(t, srv.URL+"/npm/all.zip", ""); code != 404 {
		t.Errorf("what is not there is %d", code)
	}
	var tag string
	for _, want := range []int{1, 4} {
		code, next, body := get(t, srv.URL+"/Go/all.zip", tag)
		if code != 200 || next == "" || next == tag {
			t.Fatalf("all.zip is %d with ETag %s after %s", code, next, tag)
		}
		tag = next
		if code, _, _ := get(t, srv.URL+"/Go/all.zip", tag); code != 304 {
			t.Errorf("unchanged is %d", code)
		}
		z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if len(z.File) != want {
			t.Errorf("%d advisories, want %d", len(z.File), want)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			var a struct {
				ID       string
				Affected []struct{ Package struct{ Ecosystem string } }
			}
			if err := json.NewDecoder(r).Decode(&a); err != nil || a.ID+".json" != f.Name || len(a.Affected) != 1 || a.Affected[0].Package.Ecosystem != "Go" {
				t.Errorf("%s: %+v (%v)", f.Name, a, err)
			}
		}
		m.Advance()
	}
}
