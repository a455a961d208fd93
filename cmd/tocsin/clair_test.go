package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	ociimage "tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
)

// psk is the key that the scripts' configuration shares with their client.
const psk = "c2VjcmV0LXNoYXJlZC13aXRoLXF1YXktYW5kLWNsYWlyY3Rs"

// startMirror serves the demo's feed and writes server.yaml, which points to
// it; "mirror advance" puts it into its second state.
func startMirror(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 1 && args[0] == "advance" {
		ts.Value(mirrorKey{}).(*mirror.Mirror).Advance()
		return
	}
	m := ts.Value(mirrorKey{}).(*mirror.Mirror)
	srv := httptest.NewServer(m)
	ts.Defer(srv.Close)
	ts.Check(os.WriteFile(ts.MkAbs("server.yaml"), fmt.Appendf(nil, `
listen: 127.0.0.1:0
introspection: 127.0.0.1:0
nats: {listen: 127.0.0.1:0}
updaters: {sets: [osv], config: {osv: {url: %q}}, schedules: {default: "off"}}
indexer: {allow_networks: [127.0.0.0/8]}
delivery: {allow_networks: [127.0.0.0/8]}
auth: {psk: {key: %s, iss: [quay]}}
`, srv.URL+"/", psk), 0o600))
}

type mirrorKey struct{}

// demoImage builds the demo's image, serves its layers, and writes the
// manifest as Quay would send it: demoimage DIR MANIFEST.
func demoImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: demoimage DIR MANIFEST")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	img, err := image.Build(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	layout := strings.TrimPrefix(img.Ref, "oci:")
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(layout, "blobs", "sha256"))))
	ts.Defer(srv.Close)
	images, err := ociimage.Open(img.Ref, nil)
	ts.Check(err)
	type layer struct {
		Hash    string              `json:"hash"`
		URI     string              `json:"uri"`
		Headers map[string][]string `json:"headers"`
	}
	var layers []layer
	for _, l := range images[0].Layers {
		layers = append(layers, layer{l.Digest, srv.URL + "/" + strings.TrimPrefix(l.Digest, "sha256:"), map[string][]string{"X-Test": {"1"}}})
	}
	b, err := json.Marshal(map[string]any{"hash": img.Digest, "layers": layers})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
	ts.Setenv("DIGEST", img.Digest)
}

var notification = regexp.MustCompile(`notification ([0-9a-f-]{36})`)

// clair sends one request as Quay does and writes files answer and headers:
// clair STATUS METHOD PATH [-key KEY] [-body FILE]. DIGEST and NOTIFICATION in
// the path are the manifest's digest and the notification that was heard.
func clair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: clair STATUS METHOD PATH [-key KEY] [-body FILE]")
	}
	key, body := psk, ""
	for i := 3; i+1 < len(args); i += 2 {
		switch args[i] {
		case "-key":
			key = base64.StdEncoding.EncodeToString([]byte(args[i+1]))
		case "-body":
			body = ts.ReadFile(args[i+1])
		}
	}
	path := strings.ReplaceAll(args[2], "DIGEST", ts.Getenv("DIGEST"))
	if strings.Contains(path, "NOTIFICATION") {
		path = strings.ReplaceAll(path, "NOTIFICATION", notification.FindStringSubmatch(ts.ReadFile("heard.txt"))[1])
	}
	var run struct{ API string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(ts.Getenv("TOCSIN_DATA_DIR"), "run.json"))), &run))
	req, err := http.NewRequest(args[1], "http://"+run.API+path, strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+quayToken(ts, key))
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), answer, 0o600))
	var headers bytes.Buffer
	ts.Check(resp.Header.Write(&headers))
	ts.Check(os.WriteFile(ts.MkAbs("headers"), bytes.ReplaceAll(headers.Bytes(), []byte("\r"), nil), 0o600))
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: status %d, want %s: %s", args[1], path, resp.StatusCode, args[0], answer)
	}
}

// quayToken is a JSON Web Token as Quay makes them: issuer, and five minutes.
func quayToken(ts *testscript.TestScript, key string) string {
	secret, err := base64.StdEncoding.DecodeString(key)
	ts.Check(err)
	e := base64.RawURLEncoding
	text := e.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		e.EncodeToString(fmt.Appendf(nil, `{"iss":"quay","exp":%d}`, time.Now().Add(5*time.Minute).Unix()))
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(text))
	return text + "." + e.EncodeToString(m.Sum(nil))
}
