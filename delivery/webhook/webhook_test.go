package webhook_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) {
	http.DefaultTransport = nil // nothing here may reach the network by accident
	m.Run()
}

func symmetric(fill string) string {
	return standardwebhooks.PrefixHMAC + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32)))
}

func opener() *webhook.Opener {
	return webhook.New(webhook.Options{Dial: new(net.Dialer).DialContext, UserAgent: "Tocsin/test", Callback: "https://tocsin.example/notifier/api/v1/notification/"})
}

// message makes an event ready to send.
func message(t *testing.T) delivery.Message {
	t.Helper()
	e := event.New()
	e.SetID(uuid7.New().String())
	e.SetSource("urn:tocsin:test")
	e.SetType(schemas.TypeVulnerabilitiesChanged)
	e.SetSubject("sha256:aa")
	e.SetTime(time.Date(2026, 11, 23, 12, 0, 0, 5000, time.UTC))
	e.SetDataSchema("https://tocsin.example/schemas/x.json")
	e.SetExtension("severity", "High")
	e.SetExtension("severityrank", int32(4))
	e.SetExtension("fixable", true)
	e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if err := e.SetData(event.ApplicationJSON, map[string]any{"name": "ü \"quoted\""}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := event.WriteJson(&e, &b); err != nil {
		t.Fatal(err)
	}
	return delivery.Message{DeliveryID: uuid.New(), EventID: e.ID(), Attempt: 1, Event: &e, Structured: []byte(b.String())}
}

type request struct {
	method string
	header http.Header
	body   []byte
	events []event.Event
	err    error
}

// serve starts a sink that answers with the handler and reads every request
// with the CloudEvents SDK.
func serve(t *testing.T, answer http.HandlerFunc) (*httptest.Server, <-chan request) {
	t.Helper()
	got := make(chan request, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req := request{method: r.Method, header: r.Header.Clone(), body: body}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		m := cehttp.NewMessageFromHttpRequest(r)
		switch m.ReadEncoding() {
		case binding.EncodingBatch:
			req.events, req.err = binding.ToEvents(r.Context(), m, r.Body)
		case binding.EncodingUnknown:
		default:
			var e *event.Event
			if e, req.err = binding.ToEvent(r.Context(), m); req.err == nil {
				req.events = []event.Event{*e}
			}
		}
		if answer != nil {
			answer(w, r)
		}
		got <- req
	}))
	t.Cleanup(s.Close)
	return s, got
}

func open(t *testing.T, sub delivery.Subscription) delivery.Target {
	t.Helper()
	target, err := opener().Open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return target
}

func TestModes(t *testing.T) {
	t.Parallel()
	for mode, contentType := range map[delivery.ContentMode]string{
		delivery.Structured: "application/cloudevents+json",
		delivery.Binary:     "application/json",
		delivery.Batched:    "application/cloudevents-batch+json",
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s, got := serve(t, nil)
			target := open(t, delivery.Subscription{Sink: s.URL, Secrets: []delivery.Secret{delivery.Secret(symmetric("k"))}, Config: delivery.Config{Mode: mode},
				Settings: schemas.ProtocolSettings{Headers: map[string]string{"x-team": "blue"}}, Credential: delivery.Credential{Username: "u", Password: "p"}})
			batch := []delivery.Message{message(t)}
			if mode == delivery.Batched {
				batch = append(batch, message(t), message(t))
			}
			if out := target.Deliver(t.Context(), batch); out.Class != delivery.ClassDelivered || out.Status != 200 {
				t.Fatalf("outcome %+v", out)
			}
			r := <-got
			if r.err != nil || len(r.events) != len(batch) {
				t.Fatalf("%d events, error %v", len(r.events), r.err)
			}
			for i, e := range r.events {
				want := *batch[i].Event
				if diff := cmp.Diff(attributes(want), attributes(e)); diff != "" {
					t.Errorf("event %d (-sent +received):\n%s", i, diff)
				}
			}
			if ct := r.header.Get("Content-Type"); ct != contentType {
				t.Errorf("content type %q", ct)
			}
			if id := r.header.Get("Webhook-Id"); mode != delivery.Batched && id != batch[0].EventID || mode == delivery.Batched && !strings.HasPrefix(id, "batch_") {
				t.Errorf("webhook-id %q", id)
			}
			wh, err := official.NewWebhook(symmetric("k"))
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify(r.body, r.header); err != nil {
				t.Error(err)
			}
			if err := verify(r.header, r.body, []string{symmetric("k")}, time.Now()); err != nil {
				t.Error(err)
			}
			for name, want := range map[string]string{"X-Team": "blue", "User-Agent": "Tocsin/test", "Authorization": "Basic dTpw"} {
				if v := r.header.Get(name); v != want {
					t.Errorf("%s: %q, want %q", name, v, want)
				}
			}
			if v := r.header.Get("Traceparent"); mode != delivery.Batched && v != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
				t.Errorf("traceparent %q", v)
			}
		})
	}
}

// attributes are what must survive the wire.
func attributes(e event.Event) map[string]any {
	m := map[string]any{"id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "time": e.Time().UTC(),
		"dataschema": e.DataSchema(), "datacontenttype": e.DataContentType(), "data": string(e.Data()), "specversion": e.SpecVersion()}
	for k, v := range e.Extensions() {
		s, _ := v.(string)
		switch v := v.(type) {
		case bool:
			s = map[bool]string{true: "true", false: "false"}[v]
		case int32:
			s = string(rune('0' + v))
		}
		m[k] = s
	}
	return m
}

func TestBatchID(t *testing.T) {
	t.Parallel()
	s, got := serve(t, nil)
	target := open(t, delivery.Subscription{Sink: s.URL, Config: delivery.Config{Mode: delivery.Batched}})
	a, b := message(t), message(t)
	var ids []string
	for _, batch := range [][]delivery.Message{{a, b}, {a, b}, {b, a}} {
		target.Deliver(t.Context(), batch)
		ids = append(ids, (<-got).header.Get("Webhook-Id"))
	}
	if ids[0] != ids[1] || ids[0] == ids[2] {
		t.Errorf("ids %v: want the first two alike, the third not", ids)
	}
}

func TestClairMode(t *testing.T) {
	t.Parallel()
	s, got := serve(t, nil)
	target := open(t, delivery.Subscription{Sink: s.URL, Config: delivery.Config{Mode: delivery.Clair}, Credential: delivery.Credential{Token: "tok"}})
	m := message(t)
	target.Deliver(t.Context(), []delivery.Message{m})
	r := <-got
	want := `{"notification_id":"` + m.EventID + `","callback":"https://tocsin.example/notifier/api/v1/notification/` + m.EventID + `"}`
	if string(r.body) != want || r.header.Get("Content-Type") != "application/json" || r.header.Get("Authorization") != "Bearer tok" {
		t.Errorf("got %s with %v", r.body, r.header)
	}
}

// With a pre-shared key each request of mode clair brings a token, but for a
// subscription with a credential of its own.
func TestClairModeSignsAToken(t *testing.T) {
	t.Parallel()
	s, got := serve(t, nil)
	n := 0
	o := webhook.New(webhook.Options{
		Dial: new(net.Dialer).DialContext, Callback: "https://tocsin.example/",
		ClairToken: func() (string, error) { n++; return fmt.Sprint("jwt", n), nil },
	})
	for _, c := range []struct {
		sub  delivery.Subscription
		want []string
	}{
		{delivery.Subscription{Sink: s.URL, Config: delivery.Config{Mode: delivery.Clair}}, []string{"Bearer jwt1", "Bearer jwt2"}},
		{delivery.Subscription{Sink: s.URL, Config: delivery.Config{Mode: delivery.Clair}, Credential: delivery.Credential{Token: "own"}}, []string{"Bearer own"}},
		{delivery.Subscription{Sink: s.URL}, []string{""}},
	} {
		target, err := o.Open(t.Context(), c.sub)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			target.Deliver(t.Context(), []delivery.Message{message(t)})
			if auth := (<-got).header.Get("Authorization"); auth != want {
				t.Errorf("%s: sent %q, want %q", c.sub.Config.Mode, auth, want)
			}
		}
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// verify checks a received webhook with keys as text.
func verify(h http.Header, body []byte, texts []string, now time.Time) error {
	keys := make([]standardwebhooks.Key, len(texts))
	for i, s := range texts {
		k, err := standardwebhooks.Parse(s)
		if err != nil {
			return err
		}
		keys[i] = k
	}
	_, err := standardwebhooks.Verify(keys, h, body, now, standardwebhooks.Tolerance)
	return err
}

func TestRotationAndEd25519(t *testing.T) {
	t.Parallel()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	asymmetric := standardwebhooks.PrefixPrivate + base64.StdEncoding.EncodeToString(private)
	s, got := serve(t, nil)
	target := open(t, delivery.Subscription{Sink: s.URL, Secrets: []delivery.Secret{delivery.Secret(symmetric("n")), delivery.Secret(asymmetric), delivery.Secret(symmetric("o"))}})
	target.Deliver(t.Context(), []delivery.Message{message(t)})
	r := <-got
	if n := len(strings.Fields(r.header.Get("Webhook-Signature"))); n != 3 {
		t.Fatalf("%d signatures, want 3", n)
	}
	for _, key := range []string{symmetric("n"), symmetric("o")} {
		wh, err := official.NewWebhook(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := wh.Verify(r.body, r.header); err != nil {
			t.Errorf("the official library: %v", err)
		}
	}
	public := standardwebhooks.PrefixPublic + base64.StdEncoding.EncodeToString(pub)
	seed := standardwebhooks.PrefixPrivate + base64.StdEncoding.EncodeToString(private.Seed())
	for _, keys := range [][]string{{public}, {asymmetric}, {seed}, {symmetric("x"), symmetric("o")}} {
		if err := verify(r.header, r.body, keys, time.Now()); err != nil {
			t.Errorf("keys %d: %v", len(keys), err)
		}
	}
	for name, c := range map[string]struct {
		body []byte
		keys []string
		at   time.Time
		want error
	}{
		"another key":  {r.body, []string{symmetric("x")}, time.Now(), standardwebhooks.ErrSignature},
		"changed body": {append([]byte(" "), r.body...), []string{symmetric("n"), public}, time.Now(), standardwebhooks.ErrSignature},
		"too late":     {r.body, []string{symmetric("n")}, time.Now().Add(6 * time.Minute), standardwebhooks.ErrTimestamp},
		"too early":    {r.body, []string{symmetric("n")}, time.Now().Add(-6 * time.Minute), standardwebhooks.ErrTimestamp},
	} {
		if err := verify(r.header, c.body, c.keys, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := verify(http.Header{}, r.body, nil, time.Now()); !errors.Is(err, standardwebhooks.ErrUnsigned) {
		t.Errorf("no headers: %v", err)
	}
}

// The official library's own signature is accepted here.
func TestVerifyOfficialSignature(t *testing.T) {
	t.Parallel()
	wh, err := official.NewWebhook(symmetric("k"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	sig, err := wh.Sign("msg_1", now, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", "msg_1")
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", sig)
	if err := verify(h, []byte("body"), []string{symmetric("k")}, now); err != nil {
		t.Error(err)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer     http.HandlerFunc
		class      delivery.Class
		status     int
		retryAfter time.Duration
	}{
		"204":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, delivery.ClassDelivered, 204, 0},
		"299":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, delivery.ClassDelivered, 299, 0},
		"400":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, delivery.ClassRetry, 400, 0},
		"401":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, delivery.ClassAuth, 401, 0},
		"410":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, delivery.ClassGone, 410, 0},
		"redirect":        {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, delivery.ClassRedirect, 302, 0},
		"429 for a while": {after("7", 429), delivery.ClassThrottled, 429, 7 * time.Second},
		"429 for ever":    {after("99999999", 429), delivery.ClassThrottled, 429, delivery.MaxRetryAfter},
		"429 over 2^32":   {after("4294967296", 429), delivery.ClassThrottled, 429, delivery.MaxRetryAfter},
		"429 over 2^64":   {after("999999999999999999999999", 429), delivery.ClassThrottled, 429, delivery.MaxRetryAfter},
		"429 bare":        {after("", 429), delivery.ClassThrottled, 429, 5 * time.Second},
		"503 for a while": {after("30", 503), delivery.ClassRetry, 503, 30 * time.Second},
		"503 in the past": {after("Mon, 02 Jan 2006 15:04:05 GMT", 503), delivery.ClassRetry, 503, 0},
		"503 nonsense":    {after("-5", 503), delivery.ClassRetry, 503, 0},
		"500":             {after("30", 500), delivery.ClassRetry, 500, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, got := serve(t, c.answer)
			out := open(t, delivery.Subscription{Sink: s.URL}).Deliver(t.Context(), []delivery.Message{message(t)})
			if out.Class != c.class || out.Status != c.status || out.RetryAfter != c.retryAfter || (out.Err == nil) != (c.class == delivery.ClassDelivered) {
				t.Errorf("got %+v", out)
			}
			if n := len(got); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func after(v string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if v != "" {
			w.Header().Set("Retry-After", v)
		}
		w.WriteHeader(status)
	}
}

// A body without end, or one that drips, neither costs memory nor time.
func TestEndlessBodies(t *testing.T) {
	t.Parallel()
	wrote := make(chan int64, 1)
	endless, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := []byte(strings.Repeat("x", 64<<10))
		var n int64
		for n < 10<<30 {
			m, err := w.Write(chunk)
			n += int64(m)
			if err != nil {
				break
			}
		}
		wrote <- n
	})
	out := open(t, delivery.Subscription{Sink: endless.URL}).Deliver(t.Context(), []delivery.Message{message(t)})
	if out.Class != delivery.ClassDelivered || len(out.Response) != delivery.SnippetLimit {
		t.Errorf("class %s, %d bytes kept", out.Class, len(out.Response))
	}
	if n := <-wrote; n > 64<<20 {
		t.Errorf("the sink could write %d MiB", n>>20)
	}

	drip, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	out = open(t, delivery.Subscription{Sink: drip.URL}).Deliver(ctx, []delivery.Message{message(t)})
	if out.Class != delivery.ClassRetry || time.Since(begun) > 2*time.Second {
		t.Errorf("class %s after %v", out.Class, time.Since(begun))
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	hanging, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(secure.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	plain, _ := serve(t, nil)

	for name, c := range map[string]struct {
		sub  delivery.Subscription
		want delivery.Class
	}{
		"hangs":                {delivery.Subscription{Sink: hanging.URL}, delivery.ClassTimeout},
		"refuses":              {delivery.Subscription{Sink: closed.URL}, delivery.ClassConnect},
		"unknown authority":    {delivery.Subscription{Sink: secure.URL}, delivery.ClassTLS},
		"known authority":      {delivery.Subscription{Sink: secure.URL, TLS: delivery.TLS{CA: ca}}, delivery.ClassDelivered},
		"another name":         {delivery.Subscription{Sink: secure.URL, TLS: delivery.TLS{CA: ca, ServerName: "other.test"}}, delivery.ClassTLS},
		"TLS to a plain port":  {delivery.Subscription{Sink: "https" + strings.TrimPrefix(plain.URL, "http")}, delivery.ClassTLS},
		"name does not exist":  {delivery.Subscription{Sink: "http://does-not-exist.invalid/"}, delivery.ClassDNS},
		"address not allowed":  {delivery.Subscription{Sink: "http://169.254.169.254/latest/meta-data/"}, delivery.ClassBlocked},
		"address in disguise":  {delivery.Subscription{Sink: "http://0x7f.1/"}, delivery.ClassBlocked},
		"IPv4 in IPv6":         {delivery.Subscription{Sink: "http://[::ffff:10.0.0.1]/"}, delivery.ClassBlocked},
		"scheme":               {delivery.Subscription{Sink: "ftp://example.com/"}, delivery.ClassInvalid},
		"no host":              {delivery.Subscription{Sink: "http:///x"}, delivery.ClassInvalid},
		"userinfo":             {delivery.Subscription{Sink: "http://u:p@example.com/"}, delivery.ClassInvalid},
		"reserved header":      {delivery.Subscription{Sink: plain.URL, Settings: schemas.ProtocolSettings{Headers: map[string]string{"webhook-id": "x"}}}, delivery.ClassInvalid},
		"header with newline":  {delivery.Subscription{Sink: plain.URL, Settings: schemas.ProtocolSettings{Headers: map[string]string{"x": "a\r\nb: c"}}}, delivery.ClassInvalid},
		"secret is no key":     {delivery.Subscription{Sink: plain.URL, Secrets: []delivery.Secret{"whsec_!"}}, delivery.ClassInvalid},
		"secret is too short":  {delivery.Subscription{Sink: plain.URL, Secrets: []delivery.Secret{"whsec_QUFB"}}, delivery.ClassInvalid},
		"CA is no certificate": {delivery.Subscription{Sink: secure.URL, TLS: delivery.TLS{CA: "x"}}, delivery.ClassInvalid},
		"mode":                 {delivery.Subscription{Sink: plain.URL, Config: delivery.Config{Mode: "odd"}}, delivery.ClassInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			guard := safehttp.New("delivery.allow_networks", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
			o := webhook.New(webhook.Options{Dial: guard.DialContext})
			target, err := o.Open(ctx, c.sub)
			out := delivery.Failure(err)
			if err == nil {
				out = target.Deliver(ctx, []delivery.Message{message(t)})
			}
			if out.Class != c.want {
				t.Errorf("class %s (%v), want %s", out.Class, out.Err, c.want)
			}
			if out.Err != nil && strings.Contains(out.Err.Error(), "u:p") {
				t.Errorf("the error shows credentials: %v", out.Err)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		origin, rate string
		status       int
		class        delivery.Class
		want         float64
	}{
		"consent":        {"*", "120", 200, delivery.ClassDelivered, 2},
		"by name":        {"TOCSIN", "*", 204, delivery.ClassDelivered, 0},
		"no rate":        {"tocsin", "", 200, delivery.ClassDelivered, 0},
		"another origin": {"other.example", "", 200, delivery.ClassAuth, 0},
		"no origin":      {"", "120", 200, delivery.ClassAuth, 0},
		"rate of zero":   {"*", "0", 200, delivery.ClassAuth, 0},
		"not allowed":    {"*", "", 405, delivery.ClassAuth, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, got := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if c.origin != "" {
					w.Header().Set("WebHook-Allowed-Origin", c.origin)
				}
				if c.rate != "" {
					w.Header().Set("WebHook-Allowed-Rate", c.rate)
				}
				w.WriteHeader(c.status)
			})
			o := opener()
			sub := delivery.Subscription{ID: uuid.New(), Sink: s.URL, Config: delivery.Config{Handshake: true, Rate: 5}}
			target, err := o.Open(t.Context(), sub)
			if class := delivery.Classify(err); class != c.class {
				t.Fatalf("class %s (%v)", class, err)
			}
			r := <-got
			if r.method != http.MethodOptions || r.header.Get("WebHook-Request-Origin") != "tocsin" || r.header.Get("WebHook-Request-Rate") != "300" {
				t.Errorf("asked with %s %v", r.method, r.header)
			}
			if err != nil {
				return
			}
			if rate := target.(delivery.Limited).Rate(); rate != c.want {
				t.Errorf("rate %v, want %v", rate, c.want)
			}
			// Consent is remembered for the subscription as it is.
			if _, err := o.Open(t.Context(), sub); err != nil || len(got) != 0 {
				t.Errorf("asked again, error %v", err)
			}
			sub.Version++
			if _, err := o.Open(t.Context(), sub); err != nil || len(got) != 1 {
				t.Errorf("not asked again after a change, error %v", err)
			}
		})
	}
}
