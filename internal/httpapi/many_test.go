package httpapi_test

import (
	"bytes"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// A body of as many wrong elements as fit is refused in few words, and costs
// little: whichever array of whichever route they are in.
func TestManyElementsAreRefused(t *testing.T) {
	f := newServer(t)
	for _, body := range []string{
		`{"sink":"https://x.example","filters":[` + strings.Repeat(`{},`, 1<<20) + `{}]}`,
		`{"sink":"https://x.example","types":[` + strings.Repeat(`1,`, 1<<20) + `1]}`,
		`{"sink":"https://x.example","labels":{` + strings.Repeat(`"a":1,`, 1<<18) + `"a":1}}`,
		strings.Repeat(`[`, 1<<20),
		strings.Repeat(`{"filters":[`, 1<<18),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := f.do(t, "team", "POST", "/api/v1/subscriptions", "application/json", body)
		runtime.ReadMemStats(&after)
		if r.status < 400 || r.status >= 500 || len(r.body) > 4<<10 {
			t.Errorf("%.40s…: %d, %d bytes", body, r.status, len(r.body))
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
			t.Errorf("%.40s…: %d MiB allocated for %d", body, n, len(body)>>20)
		}
	}
	// Within the limits, ten errors are enough to begin with.
	r := f.do(t, "team", "POST", "/api/v1/subscriptions", "application/json", `{"sink":"https://x.example","types":[`+strings.Repeat(`1,`, 500)+`1]}`)
	if n := bytes.Count(r.body, []byte(`"location"`)); r.status != http.StatusUnprocessableEntity || n > 10 || !bytes.Contains(r.body, []byte("and 4")) {
		t.Errorf("%d with %d errors: %.300s", r.status, n, r.body)
	}
}
