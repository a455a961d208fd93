package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// A process that was told to stop is not ready at once, and goes on serving for
// the delay, so that a load balancer can leave it without losing a request.
func TestClairD16_ShutdownIsAwaited(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second
	s := newServerOn(t, fmt.Sprintf("database: {url: %q}\nnats: {url: %q}\nroles: [delivery]\nshutdown_delay: %s\n",
		postgrestest.New(t).Config().ConnString(), bustest.NewServer(t).URL(), delay))
	s.start()

	begin := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, delay, "not ready", func() (bool, string) {
		resp, err := http.Get("http://" + s.addr.Introspection + "/readyz")
		if err != nil {
			return false, err.Error()
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable, resp.Status
	})
	s.call("GET", "/api/v1/images", nil, nil)
	<-s.done
	if took := time.Since(begin); took < delay {
		t.Errorf("it was gone after %v, before the delay of %v", took, delay)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
