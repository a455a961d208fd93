package clair_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/schemas"
)

// Defects of Clair's notifier that Tocsin must not have, by the numbers that they
// have in all of the repository's tests: D1, D3 to D8, D14 and D16 are tested
// beside what they are about.

// hub is a server with one feed, an image, and a receiver of webhooks.
type hub struct {
	*process
	t    *testing.T
	hook *httptest.Server

	mu     sync.Mutex
	feed   []byte
	stamp  int
	posts  []post
	answer func(post) int // status of a webhook's answer
}

type post struct {
	header http.Header
	body   []byte
	id     string // of the notification
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t}
	h.advise()
	feed := httptest.NewServer(http.HandlerFunc(h.serveFeed))
	t.Cleanup(feed.Close)
	h.hook = httptest.NewServer(http.HandlerFunc(h.receive))
	t.Cleanup(h.hook.Close)
	h.process = start(t, func(c *config.Config) {
		c.Updaters.Config = config.Foreign{"osv": map[string]any{"url": feed.URL + "/"}}
		c.Delivery.AllowNetworks = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
		c.Delivery.Schedule = []config.Duration{config.Duration(50 * time.Millisecond), config.Duration(50 * time.Millisecond)}
	})
	return h
}

func (h *hub) serveFeed(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Etag", fmt.Sprintf(`"%d"`, h.stamp))
	switch r.URL.Path {
	case "/ecosystems.txt":
		fmt.Fprintln(w, "PyPI")
	case "/PyPI/all.zip":
		w.Write(h.feed)
	default:
		http.NotFound(w, r)
	}
}

func (h *hub) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	p := post{header: r.Header, body: body}
	var callback struct {
		ID string `json:"notification_id"`
	}
	if err == nil {
		_ = json.Unmarshal(body, &callback) // other modes have none
	}
	p.id = callback.ID
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		status = answer(p)
	}
	h.mu.Lock()
	h.posts = append(h.posts, p)
	h.mu.Unlock()
	w.WriteHeader(status)
}

// advise makes the feed say that these PyPI packages have a flaw, "name/severity".
func (h *hub) advise(packages ...string) {
	h.t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, p := range packages {
		name, severity, _ := strings.Cut(p, "/")
		w, err := z.Create("PYSEC-2026-" + name + ".json")
		if err != nil {
			h.t.Fatal(err)
		}
		score := map[string]string{"low": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", "": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}[severity]
		fmt.Fprintf(w, `{"id":"PYSEC-2026-%s","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z","summary":"a flaw",
"severity":[{"type":"CVSS_V3","score":"%s"}],
"affected":[{"package":{"ecosystem":"PyPI","name":"%s"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]}]}`, name, score, name)
	}
	if err := z.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feed, h.stamp = out.Bytes(), h.stamp+1
}

// update runs the feed's updater and waits until what it brought is worked out.
func (h *hub) update(packages ...string) {
	h.t.Helper()
	h.advise(packages...)
	status, b := h.call(h.t, "POST", "/api/v1/updates", map[string]any{"set": "osv"})
	var jobs struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(b, &jobs); err != nil || status/100 != 2 || len(jobs.Items) == 0 {
		h.t.Fatalf("%d, %v: %s", status, err, b)
	}
	h.wait("the updater has run", func() bool {
		_, b := h.call(h.t, "GET", "/api/v1/jobs/"+jobs.Items[0].ID, nil)
		return bytes.Contains(b, []byte(`"done":true`))
	})
	h.settle(h.t)
}

func (h *hub) wait(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("it never came to be that " + what)
		}
	}
}

func (h *hub) received() []post {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.posts)
}

func (h *hub) hears(n int) []post {
	h.t.Helper()
	h.wait(fmt.Sprintf("%d webhooks have come", n), func() bool { return len(h.received()) >= n })
	return h.received()
}

// image indexes an image with these PyPI packages, of version 1.0.
func (h *hub) image(packages ...string) wireManifest {
	h.t.Helper()
	files := map[string]string{}
	for _, p := range packages {
		files["usr/lib/python3/dist-packages/"+p+"-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: " + p + "\nVersion: 1.0\n"
	}
	m := h.layer(h.t, archive(h.t, files))
	m.Hash = digest([]byte(m.Hash + strings.Join(packages, " ")))
	if status, b := h.call(h.t, "POST", indexReport, m); status != 201 {
		h.t.Fatalf("%d: %s", status, b)
	}
	return m
}

func (h *hub) subscribe(set func(*schemas.Subscription)) (id, secret string) {
	h.t.Helper()
	s := schemas.Subscription{Sink: h.hook.URL, Types: []string{schemas.TypeVulnerabilitiesChanged}}
	s.Config.Mode, s.Config.Granularity = schemas.ModeClair, schemas.GranularityUpdate
	if set != nil {
		set(&s)
	}
	status, b := h.call(h.t, "POST", "/api/v1/subscriptions", s)
	if err := json.Unmarshal(b, &s); err != nil || status/100 != 2 {
		h.t.Fatalf("%d, %v: %s", status, err, b)
	}
	return s.ID, s.Secret
}

type noted struct {
	Manifest      string `json:"manifest"`
	Reason        string `json:"reason"`
	Vulnerability struct {
		Name string `json:"name"`
	} `json:"vulnerability"`
}

func (h *hub) notification(id string) []noted {
	h.t.Helper()
	status, b := h.call(h.t, "GET", "/notifier/api/v1/notification/"+id, nil)
	var page struct {
		Notifications []noted `json:"notifications"`
	}
	if err := json.Unmarshal(b, &page); err != nil || status != 200 {
		h.t.Fatalf("%d, %v: %s", status, err, b)
	}
	return page.Notifications
}

// A notification that its client has deleted is not made again, however often
// the feed is looked at afterwards.
func TestClairD2_DeletedNotificationsStayDeleted(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.subscribe(nil)
	h.image("flask")
	h.update("flask")
	id := h.hears(1)[0].id
	if status, b := h.call(t, "DELETE", "/notifier/api/v1/notification/"+id, nil); status != 200 {
		t.Fatalf("%d: %s", status, b)
	}
	for range 3 {
		h.update("flask")
	}
	h.update("flask", "absent")
	h.update("flask", "absent", "django")
	h.image("django")
	h.update("flask", "absent", "django", "celery")
	if n := len(h.received()); n != 1 {
		t.Errorf("%d webhooks about one change", n)
	}
	if got := h.notification(id); len(got) != 0 {
		t.Errorf("the deleted notification holds %v", got)
	}
}

// What a feed's first load brings is marked as such, so that subscribers can do
// without it.
func TestClairD9_FirstLoadsCanBeLeftOut(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.subscribe(func(s *schemas.Subscription) {
		s.Filters = []schemas.Filter{{Exact: map[string]string{"firstload": "false"}}}
	})
	h.image("flask", "django")
	h.update("flask")
	h.update("flask", "django")
	posts := h.hears(1)
	if got := h.notification(posts[0].id); len(posts) != 1 || len(got) != 1 || got[0].Vulnerability.Name != "PYSEC-2026-django" {
		t.Errorf("%d webhooks, the first about %v", len(posts), got)
	}
}

// A client that deletes the notification before it has answered the webhook has
// deleted it.
func TestClairD11_DeletedWithinTheWebhook(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.answer = func(p post) int {
		if status, b := h.call(t, "DELETE", "/notifier/api/v1/notification/"+p.id, nil); status != 200 {
			t.Errorf("%d: %s", status, b)
		}
		return http.StatusOK
	}
	h.subscribe(nil)
	h.image("flask")
	h.update("flask")
	id := h.hears(1)[0].id
	h.wait("the delivery is settled", func() bool {
		_, b := h.call(t, "GET", "/api/v1/deliveries", nil)
		return bytes.Contains(b, []byte(`"delivered"`))
	})
	if got := h.notification(id); len(got) != 0 {
		t.Errorf("it is back: %v", got)
	}
}

// A target that never answers holds nobody else up: not another subscription,
// and not the next event.
func TestClairD12_HangingTargetsTimeOut(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	bad, _ := h.subscribe(func(s *schemas.Subscription) {
		s.Sink = hanging.URL
		s.Config.Timeout = schemas.Duration(200 * time.Millisecond)
	})
	h.subscribe(nil)
	h.image("flask")
	h.update("flask")
	h.hears(1)
	h.wait("the hanging target's delivery is a dead letter", func() bool {
		_, b := h.call(t, "GET", "/api/v1/deliveries?state=dead&subscription="+bad, nil)
		return bytes.Contains(b, []byte(`"timeout"`))
	})
}

// Subscriptions have filters, signatures over the body, retries, dead letters
// and replays; their deliveries are counted.
func TestClairD13_WhatAHubHas(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	failures := 4
	h.answer = func(post) int {
		h.mu.Lock()
		defer h.mu.Unlock()
		if failures--; failures >= 0 {
			return http.StatusInternalServerError
		}
		return http.StatusNoContent // any 2xx is taken
	}
	sub, secret := h.subscribe(func(s *schemas.Subscription) {
		s.Filters = []schemas.Filter{{SQL: "severityrank >= 4"}}
	})
	h.image("flask", "django")
	h.update("django/low")
	h.update("django/low", "flask")
	h.wait("three attempts have failed", func() bool {
		_, b := h.call(t, "GET", "/api/v1/deliveries?state=dead&subscription="+sub, nil)
		return bytes.Contains(b, []byte(`"dead"`))
	})
	status, b := h.call(t, "POST", "/api/v1/deliveries/replay?state=dead&subscription="+sub, nil)
	if status/100 != 2 {
		t.Fatalf("replay: %d %s", status, b)
	}
	posts := h.hears(5)
	for _, p := range posts {
		if p.id != posts[0].id {
			t.Errorf("webhooks about %s and %s: the low one was not asked for", p.id, posts[0].id)
		}
		key, err := standardwebhooks.Parse(secret)
		if err == nil {
			_, err = standardwebhooks.Verify([]standardwebhooks.Key{key}, p.header, p.body, time.Now(), standardwebhooks.Tolerance)
		}
		if err != nil {
			t.Errorf("the signature: %v", err)
		}
	}
	if got := h.notification(posts[0].id); len(got) != 1 || got[0].Vulnerability.Name != "PYSEC-2026-flask" {
		t.Errorf("the notification holds %v", got)
	}
	h.wait("the statistics count five attempts", func() bool { // the last is written down after its answer has come
		_, b := h.call(t, "GET", "/api/v1/stats", nil)
		return bytes.Contains(b, []byte(`"attempts":5`))
	})
}

// The manifests that a vulnerability affects are those whose reports have it.
func TestClairD15_AffectedAgreesWithReports(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	images := []wireManifest{h.image("flask"), h.image("django"), h.image("flask", "django"), h.image("celery")}
	h.update("flask", "django", "celery2")
	var vulns []any
	want := map[string][]string{}
	seen := map[string]bool{}
	for _, m := range images {
		status, b := h.call(t, "GET", "/matcher/api/v1/vulnerability_report/"+m.Hash, nil)
		var r struct {
			Vulnerabilities map[string]map[string]any `json:"vulnerabilities"`
		}
		if err := json.Unmarshal(b, &r); err != nil || status != 200 {
			t.Fatalf("%d, %v: %s", status, err, b)
		}
		for id, v := range r.Vulnerabilities {
			if !seen[id] {
				vulns = append(vulns, v)
			}
			seen[id] = true
			want[m.Hash] = append(want[m.Hash], id)
		}
	}
	status, b := h.call(t, "POST", affected, map[string]any{"vulnerabilities": vulns})
	var r struct {
		Manifests map[string][]string `json:"vulnerable_manifests"`
	}
	if err := json.Unmarshal(b, &r); err != nil || status != 200 {
		t.Fatalf("%d, %v: %s", status, err, b)
	}
	for _, m := range []map[string][]string{want, r.Manifests} {
		for _, ids := range m {
			slices.Sort(ids)
		}
	}
	if len(want) != 3 || fmt.Sprint(r.Manifests) != fmt.Sprint(want) {
		t.Errorf("affected: %v, and by the reports: %v", r.Manifests, want)
	}
}
