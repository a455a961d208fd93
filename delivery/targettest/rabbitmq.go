package targettest

import (
	"fmt"
	"strings"
	"testing"

	"tocsin.dev/tocsin/delivery/targettest/node"
)

// RabbitMQMessageLimit is the size in bytes over which the nodes of the suite
// refuse a message.
const RabbitMQMessageLimit = 8 << 20

// RabbitMQ is a real RabbitMQ node of its own with TLS and its STOMP plugin
// on.
type RabbitMQ struct {
	AMQP, AMQPS, STOMP, STOMPS int
	User, Password             string
	Certs                      Certificates

	t    testing.TB
	node *node.RabbitMQ
}

// StartRabbitMQ starts a node and stops it when the test ends. The test fails
// with a hint where RabbitMQ is not installed. config are further lines of its
// configuration.
func StartRabbitMQ(t testing.TB, config ...string) *RabbitMQ {
	t.Helper()
	dir := tempDir(t)
	p := freePorts(t, 3)
	r := &RabbitMQ{AMQPS: p[0], STOMP: p[1], STOMPS: p[2], Certs: NewCertificates(t, dir), t: t}
	n, err := node.NewRabbitMQ(dir, node.RabbitMQOptions{
		Config: fmt.Sprintf(`listeners.ssl.1 = 127.0.0.1:%d
stomp.listeners.tcp.1 = 127.0.0.1:%d
stomp.listeners.ssl.1 = 127.0.0.1:%d
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
max_message_size = %d
%s`, r.AMQPS, r.STOMP, r.STOMPS, r.Certs.CA, r.Certs.Cert, r.Certs.Key, RabbitMQMessageLimit, strings.Join(config, "\n")),
		Plugins: "rabbitmq_stomp", Ports: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.AMQP, r.User, r.Password, r.node = n.AMQP, n.User, n.Password, n
	t.Cleanup(r.Stop)
	r.Start()
	return r
}

// Start runs the node on its data and waits until it accepts connections.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	if err := r.node.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// Stop ends the node; its data stay for the next Start.
func (r *RabbitMQ) Stop() { r.node.Stop() }

// Restart stops and starts the node.
func (r *RabbitMQ) Restart() { r.t.Helper(); r.Stop(); r.Start() }
