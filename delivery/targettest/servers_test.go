package targettest

import (
	"net"
	"testing"
)

func TestServersStartRestartAndEnd(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, port int, up bool) {
		t.Helper()
		c, err := net.Dial("tcp", Address(port))
		if (err == nil) != up {
			t.Fatalf("port %d: up=%v, want %v (%v)", port, err == nil, up, err)
		}
		if c != nil {
			c.Close()
		}
	}
	t.Run("RabbitMQ", func(t *testing.T) {
		t.Parallel()
		r := StartRabbitMQ(t)
		check(t, r.STOMPS, true)
		r.Stop()
		check(t, r.AMQP, false)
		r.Start()
		check(t, r.AMQP, true)
	})
	t.Run("ActiveMQ", func(t *testing.T) {
		t.Parallel()
		a := StartActiveMQ(t)
		check(t, a.STOMP, true)
		a.Restart()
		check(t, a.STOMP, true)
		a.Stop()
		check(t, a.STOMP, false)
	})
}
