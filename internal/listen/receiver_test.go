package listen_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func changed(t *testing.T) event.Event {
	t.Helper()
	e := event.New()
	e.SetID("0198d1c4-0000-7000-8000-000000000001")
	e.SetSource("urn:tocsin:test")
	e.SetType(schemas.TypeVulnerabilitiesChanged)
	e.SetSubject("sha256:aa")
	f := func(id, sev, fix string) schemas.Finding {
		return schemas.Finding{ID: id, NormalizedSeverity: sev, FixedInVersion: fix, Package: schemas.Package{Name: "golang.org/x/net", Version: "v0.10.0"}}
	}
	kev := f("GO-2024-1", "Critical", "0.23.0")
	kev.KEV = true
	err := e.SetData(event.ApplicationJSON, schemas.VulnerabilitiesChanged{
		Manifest: schemas.Manifest{Digest: "sha256:aa", Names: []string{"registry.example/team/app:1\x1b[2J"}},
		Update:   schemas.Update{Updater: "osv/go"},
		Counts:   schemas.Counts{Added: 2, Removed: 1, Revised: 1},
		Added:    []schemas.Finding{kev, f("GO-2024-2", "High", "")},
		Removed:  []schemas.Finding{f("GO-2024-3", "Low", "")},
		Revised: []schemas.RevisedFinding{{Finding: f("GO-2024-4", "High", "1.2"),
			Changes: []schemas.FieldChange{{Field: "fixed_in_version", From: "", To: "1.2"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// signed makes a request that the official library signed.
func signed(t *testing.T, id string, at time.Time, body []byte) *http.Request {
	t.Helper()
	wh, err := official.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := wh.Sign(id, at, body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/cloudevents+json")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", sig)
	return r
}

func keys(t *testing.T, texts ...string) []standardwebhooks.Key {
	t.Helper()
	var out []standardwebhooks.Key
	for _, s := range texts {
		k, err := standardwebhooks.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

func status(h http.Handler, r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(changed(t))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	whpk := "whpk_" + base64.StdEncoding.EncodeToString(public)
	v1a := func() *http.Request {
		r := signed(t, "m1", now, body)
		sig := ed25519.Sign(private, fmt.Appendf(nil, "m1.%d.%s", now.Unix(), body))
		r.Header.Set("webhook-signature", "v2,AAAA v1a,"+base64.StdEncoding.EncodeToString(sig))
		return r
	}
	edit := func(r *http.Request, name, value string) *http.Request {
		r.Header.Set(name, value)
		return r
	}
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte("another secret of some length"))
	for _, c := range []struct {
		what   string
		keys   []string
		r      *http.Request
		status int
		scheme string
	}{
		{"v1", []string{secret}, signed(t, "m1", now, body), 204, "v1"},
		{"v1, second key", []string{other, secret}, signed(t, "m1", now, body), 204, "v1"},
		{"v1a", []string{whpk}, v1a(), 204, "v1a"},
		{"no key", nil, signed(t, "m1", now, body), 204, ""},
		{"wrong key", []string{other}, signed(t, "m1", now, body), 401, ""},
		{"v1 with a v1a key", []string{whpk}, signed(t, "m1", now, body), 401, ""},
		{"other id", []string{secret}, edit(signed(t, "m1", now, body), "webhook-id", "m2"), 401, ""},
		{"other time", []string{secret}, edit(signed(t, "m1", now, body), "webhook-timestamp", strconv.FormatInt(now.Unix()+1, 10)), 401, ""},
		{"too old", []string{secret}, signed(t, "m1", now.Add(-6*time.Minute), body), 401, ""},
		{"too new", []string{secret}, signed(t, "m1", now.Add(6*time.Minute), body), 401, ""},
		{"unsigned", []string{secret}, edit(signed(t, "m1", now, body), "webhook-signature", ""), 401, ""},
		{"garbage", []string{secret}, edit(signed(t, "m1", now, body), "webhook-signature", "v1,!!! v1 ,, v1,"), 401, ""},
	} {
		var got []listen.Received
		h := listen.New(listen.Options{Keys: keys(t, c.keys...), Receive: func(_ context.Context, m listen.Received) error {
			got = append(got, m)
			return nil
		}})
		if code := status(h, c.r); code != c.status {
			t.Errorf("%s: status %d, want %d", c.what, code, c.status)
		}
		if c.status == 204 && (len(got) != 1 || got[0].Scheme != c.scheme) || c.status != 204 && len(got) != 0 {
			t.Errorf("%s: received %+v", c.what, got)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "secret", "whsec_", "whsec_AAAA", "whsec_!", "whpk_AAAA", "whpk_" + strings.Repeat("A", 44)} {
		if _, err := standardwebhooks.Parse(s); err == nil {
			t.Errorf("ParseKey(%q) took it", s)
		} else if len(s) > 8 && strings.Contains(err.Error(), s[7:]) {
			t.Errorf("ParseKey(%q) tells the key: %v", s, err)
		}
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	e := changed(t)
	one, _ := json.Marshal(e)
	batch, _ := json.Marshal([]event.Event{e, e})
	post := func(media string, body []byte, header map[string]string) *http.Request {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", media)
		for k, v := range header {
			r.Header.Set(k, v)
		}
		return r
	}
	for _, c := range []struct {
		what   string
		r      *http.Request
		status int
		events int
	}{
		{"structured", post("application/cloudevents+json; charset=utf-8", one, nil), 204, 1},
		{"batched", post("application/cloudevents-batch+json", batch, nil), 204, 2},
		{"binary", post("application/json", e.Data(), map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "urn:x", "ce-type": e.Type()}), 204, 1},
		{"clair", post("application/json", []byte(`{"notification_id":"1","callback":"http://x/"}`), nil), 204, 0},
		{"not json", post("application/cloudevents+json", []byte("{"), nil), 400, 0},
		{"no id", post("application/cloudevents+json", []byte(`{"specversion":"1.0","type":"t","source":"s"}`), nil), 400, 0},
		{"other json", post("application/json", []byte(`{}`), nil), 400, 0},
		{"no type", post("", one, nil), 400, 0},
		{"too big", post("application/cloudevents+json", bytes.Repeat([]byte(" "), 2<<20), nil), 413, 0},
		{"get", httptest.NewRequest("GET", "/", nil), 405, 0},
	} {
		n := 0
		h := listen.New(listen.Options{MaxBody: 1 << 20, Receive: func(_ context.Context, m listen.Received) error {
			n = len(m.Events)
			return nil
		}})
		if code := status(h, c.r); code != c.status || n != c.events {
			t.Errorf("%s: status %d with %d events, want %d with %d", c.what, code, n, c.status, c.events)
		}
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("OPTIONS", "/", nil)
	r.Header.Set("WebHook-Request-Origin", "tocsin.example")
	w := httptest.NewRecorder()
	listen.New(listen.Options{}).ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("WebHook-Allowed-Origin") != "tocsin.example" || w.Header().Get("WebHook-Allowed-Rate") != "*" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestForwardAnswersWhatTheTargetAnswers(t *testing.T) {
	t.Parallel()
	answer, got := 503, make(chan *http.Request, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		got <- r
		w.WriteHeader(answer)
	}))
	defer target.Close()
	body, _ := json.Marshal(changed(t))
	req := signed(t, "m1", time.Now(), body)
	req.Header.Set("Authorization", "Bearer x")
	h := listen.New(listen.Options{Keys: keys(t, secret), Forward: target.URL})
	if code := status(h, req); code != 503 {
		t.Errorf("status %d, want the target's 503", code)
	}
	r := <-got
	wh, _ := official.NewWebhook(secret)
	b, _ := io.ReadAll(r.Body)
	if err := wh.Verify(b, r.Header); err != nil {
		t.Errorf("what was forwarded does not verify: %v", err)
	}
	if r.Header.Get("Authorization") != "" {
		t.Error("a header that is not the event's was forwarded")
	}
	target.Close()
	if code := status(h, signed(t, "m1", time.Now(), body)); code != 502 {
		t.Errorf("status %d with the target gone, want 502", code)
	}
}

func TestServeEndsAfterOnceAndMarksRepeats(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var repeats []bool
	fail := errors.New("not now")
	r := listen.New(listen.Options{Once: 2, Receive: func(_ context.Context, m listen.Received) error {
		err := fail
		if fail = nil; err == nil {
			repeats = append(repeats, m.Repeat)
		}
		return err
	}})
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(t.Context(), ln) }()
	body, _ := json.Marshal(changed(t))
	for i, want := range []int{500, 204, 204} { // the first is refused, so the second is no repeat
		req := signed(t, "m1", time.Now(), body)
		req.URL.Scheme, req.URL.Host, req.RequestURI = "http", ln.Addr().String(), ""
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("message %d: status %d, want %d", i, resp.StatusCode, want)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(repeats) != 2 || repeats[0] || !repeats[1] {
		t.Errorf("repeats %v", repeats)
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	var b bytes.Buffer
	p := listen.Printer{W: &b, Findings: 3}
	if err := p.Message(listen.Received{At: at, Scheme: "v1", Signed: true, Events: []event.Event{changed(t)}}); err != nil {
		t.Fatal(err)
	}
	want := `03:04:05  vulnerabilities changed  registry.example/team/app:1[2J  +2 −1 ~1
          event 0198d1c4-0000-7000-8000-000000000001  signature verified (v1)
          by osv/go  in sha256:aa
          + Critical   GO-2024-1  golang.org/x/net v0.10.0  fixed in 0.23.0  KEV
          + High       GO-2024-2  golang.org/x/net v0.10.0  no fix
          − Low        GO-2024-3  golang.org/x/net v0.10.0  no fix
          … and 1 more
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	p.Findings = 0
	p.Style = terminal.Style{Colour: true}
	if err := p.Message(listen.Received{At: at, Repeat: true, Events: []event.Event{changed(t)}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"fixed_in_version none → 1.2", "not signed", "(repeat)", "\x1b[1;35m"} {
		if !strings.Contains(b.String(), s) {
			t.Errorf("%q is not in\n%q", s, b.String())
		}
	}
	b.Reset()
	p.JSON = true
	if err := p.Message(listen.Received{Events: []event.Event{changed(t), changed(t)}}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 2 || !json.Valid([]byte(strings.Split(b.String(), "\n")[0])) {
		t.Errorf("JSON output of %d lines: %s", n, b.String())
	}
}
