package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// ErrNoRabbitMQ says that the machine has no RabbitMQ.
var ErrNoRabbitMQ = errors.New("no RabbitMQ on this machine: install the Debian package rabbitmq-server")

// RabbitMQOptions are what a node offers besides AMQP. The zero value is
// nothing.
type RabbitMQOptions struct {
	Config  string // further lines of rabbitmq.conf
	Plugins string // such as "rabbitmq_stomp", with commas between
	Ports   []int  // that it listens on by those
}

// RabbitMQ is a node of its own: own data, own node name, own Erlang port
// mapper, a free port on loopback. It is not for concurrent use.
type RabbitMQ struct {
	AMQP           int
	User, Password string

	dir, home  string
	env        []string
	ports      []int
	mapperPort int
	server     *Process
	mapper     *Process // the Erlang port mapper, ours, so that it ends with us
}

// NewRabbitMQ writes a node's configuration into dir, an existing directory
// that is the node's alone, and starts nothing.
func NewRabbitMQ(dir string, o RabbitMQOptions) (*RabbitMQ, error) {
	homes, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")
	if len(homes) == 0 {
		return nil, ErrNoRabbitMQ
	}
	p, err := FreePorts(3)
	if err != nil {
		return nil, err
	}
	r := &RabbitMQ{
		AMQP: p[0], User: "tocsin", Password: "right",
		dir: dir, home: homes[len(homes)-1], ports: append([]int{p[0]}, o.Ports...), mapperPort: p[2],
	}
	for _, d := range []string{"home", "mnesia", "log"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	conf := fmt.Sprintf(`listeners.tcp.1 = 127.0.0.1:%d
distribution.listener.interface = 127.0.0.1
default_user = %s
default_pass = %s
loopback_users = none
disk_free_limit.absolute = 1MB
%s`, r.AMQP, r.User, r.Password, o.Config)
	if err := os.WriteFile(filepath.Join(dir, "rabbitmq.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "enabled_plugins"), []byte("["+o.Plugins+"].\n"), 0o644); err != nil {
		return nil, err
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
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", p[1]),
		fmt.Sprintf("ERL_EPMD_PORT=%d", r.mapperPort), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_LOGS=-",
	}
	return r, nil
}

// Start runs the node on its data and waits until it accepts connections. One
// that runs is left alone; one that fails to start must be stopped still.
func (r *RabbitMQ) Start(ctx context.Context) (err error) {
	if r.server != nil {
		return nil
	}
	if r.mapper == nil {
		r.mapper, err = StartProcess(r.dir, nil, "epmd", "-port", strconv.Itoa(r.mapperPort), "-address", "127.0.0.1")
		if err != nil {
			return err
		}
		if err := r.mapper.WaitTCP(ctx, r.mapperPort); err != nil {
			return err
		}
	}
	if r.server, err = StartProcess(r.dir, r.env, filepath.Join(r.home, "sbin", "rabbitmq-server")); err != nil {
		return err
	}
	for _, port := range r.ports {
		if err := r.server.WaitTCP(ctx, port); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the node as its operator would; its data stay for the next Start.
func (r *RabbitMQ) Stop() { r.end((*Process).End) }

// Kill ends the node with SIGKILL; its data stay for the next Start.
func (r *RabbitMQ) Kill() { r.end((*Process).Kill) }

func (r *RabbitMQ) end(how func(*Process)) {
	for _, p := range []*Process{r.server, r.mapper} {
		if p != nil {
			how(p)
		}
	}
	r.server, r.mapper = nil, nil
}
