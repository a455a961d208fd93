package main

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/demo/mirror"
)

func TestMain(m *testing.M) {
	indexer.ServeScans()
	testscript.Main(m, map[string]func(){"tocsin": main})
}

// TestScripts holds the command line to what testdata/*.txtar says.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_DATA_HOME", e.WorkDir+"/data")
			e.Setenv("NO_COLOR", "1")
			e.Vars = append(e.Vars, goEnvironment()...) // the demo builds its image
			m, err := mirror.New()
			e.Values[mirrorKey{}] = m
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"send": send, "mkimage": mkimage, "mirror": startMirror, "demoimage": demoImage, "clair": clair,
		},
	})
}

// goEnvironment is where the Go toolchain keeps things: a script has no home.
var goEnvironment = sync.OnceValue(func() []string {
	names := []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GONOSUMDB", "GOSUMDB", "GOFLAGS"}
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		return nil // the demo says what is missing
	}
	var vars []string
	for i, v := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if i < len(names) {
			vars = append(vars, names[i]+"="+v)
		}
	}
	return vars
})

var listening = regexp.MustCompile(`Listening on (http://\S+)`)

// send posts a file as an event to the listener that writes to a log: send LOG
// SECRET FILE STATUS. Without a secret it is not signed.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: send LOG SECRET FILE STATUS")
	}
	var url string
	for deadline := time.Now().Add(20 * time.Second); url == ""; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if m := listening.FindSubmatch(b); m != nil {
			url = string(m[1])
		} else if time.Now().After(deadline) {
			ts.Fatalf("no listener in %s: %s %v", args[0], b, err)
		}
	}
	body := []byte(ts.ReadFile(args[2]))
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/cloudevents+json")
	if args[1] != "" {
		wh, err := standardwebhooks.NewWebhook(args[1])
		ts.Check(err)
		now := time.Now()
		sig, err := wh.Sign("msg_1", now, body)
		ts.Check(err)
		req.Header.Set("webhook-id", "msg_1")
		req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		req.Header.Set("webhook-signature", sig)
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if strconv.Itoa(resp.StatusCode) != args[3] {
		ts.Fatalf("status %d, want %s", resp.StatusCode, args[3])
	}
}

// installed is Alpine's database of two packages.
const installed = "P:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\nP:zlib\nV:1.2.13-r1\nA:x86_64\no:zlib\n\n"

// mkimage writes an OCI layout with one image of two Alpine packages: mkimage
// DIR.
func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkimage DIR")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, text string }{
		{"etc/os-release", "ID=alpine\nNAME=\"Alpine Linux\"\nVERSION_ID=3.18.4\nPRETTY_NAME=\"Alpine Linux v3.18\"\n"},
		{"lib/apk/db/installed", installed},
	} {
		ts.Check(w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text))}))
		_, err := w.Write([]byte(f.text))
		ts.Check(err)
	}
	ts.Check(w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	img, err := mutate.AppendLayers(empty.Image, l)
	ts.Check(err)
	path, err := layout.Write(ts.MkAbs(args[0]), empty.Index)
	ts.Check(err)
	ts.Check(path.AppendImage(img))
}
