package targettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// RabbitMQMessageLimit is the size in bytes over which the nodes of the suite
// refuse a message.
const RabbitMQMessageLimit = 8 << 20

// RabbitMQ is a real RabbitMQ node of its own: own data, own node name, own
// Erlang port mapper, free ports on loopback, STOMP plugin on.
type RabbitMQ struct {
	AMQP, AMQPS, STOMP, STOMPS int
	User, Password             string
	Certs                      Certificates

	t    testing.TB
	dir  string
	home string
	env  []string
	epmd int
	proc *process
	port *process // the Erlang port mapper, ours, so that it ends with us
}

// StartRabbitMQ starts a node and stops it when the test ends. The test fails
// with a hint where RabbitMQ is not installed.
func StartRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	homes, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")
	if len(homes) == 0 {
		t.Fatal("no RabbitMQ on this machine: install the Debian package rabbitmq-server")
	}
	dir := tempDir(t)
	p := freePorts(t, 6)
	r := &RabbitMQ{
		AMQP: p[0], AMQPS: p[1], STOMP: p[2], STOMPS: p[3], User: "tocsin", Password: "right",
		Certs: NewCertificates(t, dir), t: t, dir: dir, home: homes[len(homes)-1], epmd: p[5],
	}
	conf := fmt.Sprintf(`listeners.tcp.1 = 127.0.0.1:%d
listeners.ssl.1 = 127.0.0.1:%d
stomp.listeners.tcp.1 = 127.0.0.1:%d
stomp.listeners.ssl.1 = 127.0.0.1:%d
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
distribution.listener.interface = 127.0.0.1
default_user = %s
default_pass = %s
loopback_users = none
max_message_size = %d
disk_free_limit.absolute = 1MB
`, r.AMQP, r.AMQPS, r.STOMP, r.STOMPS, r.Certs.CA, r.Certs.Cert, r.Certs.Key, r.User, r.Password, RabbitMQMessageLimit)
	write(t, dir, "rabbitmq.conf", []byte(conf))
	write(t, dir, "enabled_plugins", []byte("[rabbitmq_stomp].\n"))
	for _, d := range []string{"home", "mnesia", "log"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.env = []string{
		"HOME=" + filepath.Join(dir, "home"), "LANG=C.UTF-8",
		"RABBITMQ_HOME=" + r.home,
		fmt.Sprintf("RABBITMQ_NODENAME=tocsin-%d@localhost", r.AMQP),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", r.AMQP),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", p[4]),
		fmt.Sprintf("ERL_EPMD_PORT=%d", p[5]), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_LOGS=-",
	}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// Start runs the node on its data and waits until it accepts connections.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	if r.proc != nil {
		return
	}
	r.port = startProcess(r.t, r.dir, nil, "epmd", "-port", strconv.Itoa(r.epmd), "-address", "127.0.0.1")
	r.port.waitTCP(r.t, r.epmd)
	r.proc = startProcess(r.t, r.dir, r.env, filepath.Join(r.home, "sbin", "rabbitmq-server"))
	for _, port := range []int{r.AMQP, r.AMQPS, r.STOMP, r.STOMPS} {
		r.proc.waitTCP(r.t, port)
	}
}

// Stop ends the node; its data stay for the next Start.
func (r *RabbitMQ) Stop() {
	if r.proc == nil {
		return
	}
	r.proc.end()
	r.port.end()
	r.proc, r.port = nil, nil
}

// Restart stops and starts the node.
func (r *RabbitMQ) Restart() { r.t.Helper(); r.Stop(); r.Start() }

// tempDir is a directory for a server's data with a short name, removed when
// the test ends even if the server left files behind.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
