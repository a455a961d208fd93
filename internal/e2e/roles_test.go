package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

// TestRolesApart runs the roles in processes of their own against one Postgres
// and one NATS, two of the matcher and delivery, and sees an event through all
// of them, once.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	feed, feeds, img := serveDemo(t)

	key := make([]byte, 32)
	rand.Read(key)
	url := postgrestest.New(t).Config().ConnString()
	natsURL := bustest.NewServer(t).URL()
	shared := fmt.Sprintf(`database: {url: %q}
nats: {url: %q}
secrets: {keys: [%q]}
updaters:
  sets: [osv]
  config: {osv: {url: "%s/"}}
  schedules: {default: "@every 24h"}
`, url, natsURL, base64.StdEncoding.EncodeToString(key), feeds.URL)
	process := func(roles string) *server {
		s := newServerOn(t, shared+"roles: ["+roles+"]\n")
		s.start()
		return s
	}
	ingest := process("indexer, updater")
	process("matcher, notifier")
	process("matcher, notifier")
	process("delivery")
	process("delivery")

	hook := newReceiver(t)
	ingest.subscribe(hook, "roles")
	ingest.publish("tocsin.manifests", img.job(t))
	is := func(kind string) func(received) bool {
		return func(r received) bool { return r.Type == kind && r.Subject == img.Digest }
	}
	eventually(t, time.Minute, "the indexed event", func() (bool, string) {
		return hook.count(is(schemas.TypeManifestIndexed)) == 1, fmt.Sprint(len(hook.all()), " events so far")
	})
	ingest.quiet(hook)
	feed.Advance()
	ingest.publish("tocsin.updates", []byte(`{"set":"osv"}`))
	changed := func() (last schemas.VulnerabilitiesChanged, n int) {
		for _, e := range hook.all() {
			var d schemas.VulnerabilitiesChanged
			if is(schemas.TypeVulnerabilitiesChanged)(e) && json.Unmarshal(e.Data, &d) == nil && !d.Update.FirstLoad {
				last, n = d, n+1
			}
		}
		return last, n
	}
	eventually(t, time.Minute, "the changed event", func() (bool, string) {
		_, n := changed()
		return n > 0, fmt.Sprint(len(hook.all()), " events so far")
	})
	ingest.quiet(hook)
	d, n := changed()
	if n != 1 || len(d.Added) != 2 || len(d.Removed) != 0 || len(d.Revised) != 1 {
		t.Errorf("%d changed events, the last with %d added, %d removed, %d revised; want 1 with 2, 0 and 1", n, len(d.Added), len(d.Removed), len(d.Revised))
	}
}
