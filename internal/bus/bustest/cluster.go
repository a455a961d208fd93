package bustest

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A Cluster is a cluster of NATS servers with JetStream in this process, each of
// which a test may stop and start again. Its methods are for the test's goroutine.
type Cluster struct {
	t       testing.TB
	options []*server.Options
	servers []*server.Server
}

// NewCluster starts n servers that end with the test.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, servers: make([]*server.Server, n)}
	dir := t.TempDir()
	var routes []*url.URL
	for i := range n {
		port := freePort(t)
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
		c.options = append(c.options, &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: freePort(t), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: filepath.Join(dir, strconv.Itoa(i)), JetStreamMaxStore: 1 << 40,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		})
	}
	for i := range n {
		c.options[i].Routes = routes
		c.Start(i)
	}
	t.Cleanup(func() {
		for i := range n {
			c.Stop(i)
		}
	})
	return c
}

// Start starts server i where it was before.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	o := *c.options[i]
	srv, err := server.NewServer(&o)
	if err != nil {
		c.t.Fatalf("bustest: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(30 * time.Second) {
		c.t.Fatalf("bustest: server %d of the cluster is not ready", i)
	}
	c.servers[i] = srv
}

// Stop stops server i, if it runs.
func (c *Cluster) Stop(i int) {
	if srv := c.servers[i]; srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		c.servers[i] = nil
	}
}

// URL is the address of server i.
func (c *Cluster) URL(i int) string {
	return fmt.Sprintf("nats://127.0.0.1:%d", c.options[i].Port)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
