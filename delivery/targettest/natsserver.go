package targettest

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATS is a real NATS server in this process with JetStream on disk and two
// users; its port speaks plain and, when asked, TLS.
type NATS struct {
	Port           int
	User, Password string
	Certs          Certificates

	t      testing.TB
	dir    string
	server *server.Server
}

// NATSPayloadLimit is the server's max_payload in bytes.
const NATSPayloadLimit = 8 << 20

// NATSLimitedUser is a user of the server, with the password of the other, who
// must not publish to secret.>.
const NATSLimitedUser = "limited"

// StartNATS starts the server and stops it when the test ends.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	dir := tempDir(t)
	n := &NATS{Port: freePorts(t, 1)[0], User: "tocsin", Password: "right", Certs: NewCertificates(t, dir), t: t, dir: dir}
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// Start runs the server on its data and waits until it accepts connections.
func (n *NATS) Start() {
	n.t.Helper()
	if n.server != nil {
		return
	}
	cert, err := tls.LoadX509KeyPair(n.Certs.Cert, n.Certs.Key)
	if err != nil {
		n.t.Fatal(err)
	}
	n.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n.Port, MaxPayload: NATSPayloadLimit,
		Users: []*server.User{
			{Username: n.User, Password: n.Password},
			{Username: NATSLimitedUser, Password: n.Password, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"secret.>"}}}},
		},
		TLS: true, AllowNonTLS: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		JetStream: true, StoreDir: n.dir, SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	go n.server.Start()
	if !n.server.ReadyForConnections(30 * time.Second) {
		n.t.Fatal("the NATS server does not get ready")
	}
}

// Stop ends the server; its data stay for the next Start.
func (n *NATS) Stop() {
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.server = nil
}
