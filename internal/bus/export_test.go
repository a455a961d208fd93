package bus

import "github.com/nats-io/nats.go"

// Conn is the connection beneath.
func (b *Bus) Conn() *nats.Conn { return b.nc }
