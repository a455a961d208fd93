package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/bus/bustest"
	demoimage "tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

var soakHours = flag.Float64("e2e.soak", 0, "how many hours the soak lasts; 0 leaves it out")

// usage is what a running server takes at a moment.
type usage struct {
	rss, goroutines, descriptors, connections, files float64 // rss and files in MiB
}

// each names what of a usage has to stay flat, and by how much more than a quarter
// it may grow: what a runtime takes when it likes.
var each = []struct {
	name  string
	of    func(usage) float64
	slack float64
}{
	{"RSS MiB", func(u usage) float64 { return u.rss }, 64},
	{"goroutines", func(u usage) float64 { return u.goroutines }, 40},
	{"descriptors", func(u usage) float64 { return u.descriptors }, 40},
	{"connections", func(u usage) float64 { return u.connections }, 10},
	{"data MiB", func(u usage) float64 { return u.files }, 16},
}

// TestSoak keeps a server at half its load: an image three times a second, feeds
// that change every few seconds, every event delivered, and the NATS server
// restarted twenty times on the way. What the process takes stays flat between the
// second quarter of the time and the last, and everything published is told once.
func TestSoak(t *testing.T) {
	if *soakHours <= 0 {
		t.Skip("`make soak` runs this")
	}
	length := time.Duration(*soakHours * float64(time.Hour))
	built, err := demoimage.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img := serveImages(t, filepath.Dir(built.Ref[len("oci:"):]))[0]
	feeds, flip := flippingFeed(t)
	database := postgrestest.Empty(t)
	nats := bustest.NewServer(t)
	key := make([]byte, 32)
	rand.Read(key)
	s := newServerOn(t, fmt.Sprintf("database: {url: %q}\nnats: {url: %q}\nsecrets: {keys: [%q]}\nupdaters:\n  sets: [osv]\n  config: {osv: {url: \"%s/\"}}\n  schedules: {default: \"@every 5s\"}\n",
		database.Config().ConnString(), nats.URL(), base64.StdEncoding.EncodeToString(key), feeds))
	s.start()
	hook := newReceiver(t)
	s.subscribe(hook, "soak")
	l := newLoad(t, s, img, 330*time.Millisecond)
	begin, restarts := time.Now(), 0
	var samples []usage
	every := max(length/120, time.Second)
	for time.Since(begin) < length {
		time.Sleep(every) // a soak is time
		samples = append(samples, s.usage(database))
		flip()
		if time.Since(begin) > time.Duration(restarts+1)*length/20 {
			nats.Restart()
			restarts++
		}
	}
	l.stop()
	<-l.done
	// A message that was on its way when NATS was restarted comes again after half a minute.
	lost := -1
	for end := time.Now().Add(3 * time.Minute); lost != 0 && time.Now().Before(end); time.Sleep(time.Second) {
		lost = untold(l, hook)
	}
	if lost > 0 {
		t.Errorf("%d of %d images were not told", lost, len(l.published))
	}
	s.quiet(hook)
	line := ""
	quarter := len(samples) / 4
	for _, what := range each {
		early, late := mean(samples[quarter:2*quarter], what.of), mean(samples[3*quarter:], what.of)
		if late > early*1.25+what.slack {
			t.Errorf("%s grew from %.0f to %.0f", what.name, early, late)
		}
		line += fmt.Sprintf(", %s %.0f → %.0f", what.name, early, late)
	}
	verdict := "flat"
	if t.Failed() {
		verdict = "FAILED"
	}
	fmt.Printf("soak %s: %.2f h, %d images, %d lost, %d deliveries, %d restarts of NATS%s\n", verdict, *soakHours, len(l.published), lost, len(hook.all()), restarts, line)
}

// untold counts the images whose publication was acknowledged and whose indexed
// event has not come.
func untold(l *load, hook *receiver) (n int) {
	told := map[string]bool{}
	for _, e := range hook.all() {
		if e.Type == schemas.TypeManifestIndexed {
			told[e.Subject] = true
		}
	}
	for digest := range l.published {
		if !told[digest] {
			n++
		}
	}
	return n
}

// flippingFeed serves a feed that has one of two states, and changes it when it is
// told to.
func flippingFeed(t *testing.T) (url string, flip func()) {
	var states [2]http.Handler
	for i := range states {
		m, err := mirror.New()
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			m.Advance()
		}
		states[i] = m
	}
	var now atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { states[now.Load()%2].ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	return srv.URL, func() { now.Add(1) }
}

func mean(of []usage, what func(usage) float64) (sum float64) {
	for _, u := range of {
		sum += what(u) / float64(len(of))
	}
	return sum
}

// usage reads the server's own metrics, its connections in the database and the
// size of its data directory.
func (s *server) usage(database *pgxpool.Pool) (u usage) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.addr.Introspection + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && !strings.HasPrefix(name, "#") {
			values[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	if values["process_resident_memory_bytes"] == 0 || values["go_goroutines"] == 0 {
		s.t.Fatal("the server's metrics do not say what it takes")
	}
	u = usage{rss: values["process_resident_memory_bytes"] / (1 << 20), goroutines: values["go_goroutines"], descriptors: values["process_open_fds"]}
	if err := database.QueryRow(s.t.Context(), `SELECT count(*)::float8 FROM pg_stat_activity WHERE application_name = 'tocsin' AND datname = current_database()`).Scan(&u.connections); err != nil {
		s.t.Fatal(err)
	}
	_ = filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() {
			u.files += float64(info.Size()) / (1 << 20)
		}
		return nil
	})
	return u
}
