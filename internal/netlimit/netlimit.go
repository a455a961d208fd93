// Package netlimit bounds the connections that a listener hands out: in all, and
// from one address.
//
// It guarantees that never more than [Options.Max] connections of a listener are
// open at a time, that none is refused for that while another stands idle, and that
// a listener with a reserve goes on accepting when the process has no descriptor
// left. It knows connections, not requests.
package netlimit

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options are the bounds of one listener.
type Options struct {
	// Max is how many connections may be open; over it, the one that has been idle
	// for longest makes room, and if all are in use the new one is refused.
	Max int
	// PerAddress is how many of them may be from one address; 0 for no such bound.
	PerAddress int
	// Exempt are networks for which PerAddress does not hold: those of proxies, from
	// which everybody comes.
	Exempt []netip.Prefix
	// Reserve is how many descriptors are held back so that connections can be
	// accepted when the process has used up all others.
	Reserve int
	// Refused, if not nil, is told why a connection was refused or made room:
	// "all", "address" or "idle".
	Refused func(reason string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// settling is how old a connection must be, on which no request has come yet, to
// make room for another.
const settling = time.Second

// refusal is what a client reads whose connection is refused.
const refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// Listener is a [net.Listener] with bounds. It is safe for concurrent use.
type Listener struct {
	net.Listener
	o Options

	mu       sync.Mutex
	open     map[*conn]struct{}
	byAddr   map[netip.Addr]int
	reserved []*os.File
}

// conn is an open connection.
type conn struct {
	net.Conn
	l        *Listener
	addr     netip.Addr
	reserved bool // it took a descriptor of the reserve
	close    sync.Once

	// Under the listener's lock.
	idle  bool      // no request is under way
	since time.Time // when that changed
}

// Limit returns l with bounds. It opens the reserve's descriptors; those that can't
// be opened now are opened as connections end.
func Limit(l net.Listener, o Options) *Listener {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	out := &Listener{Listener: l, o: o, open: map[*conn]struct{}{}, byAddr: map[netip.Addr]int{}}
	out.refill()
	return out
}

// refill opens descriptors of the reserve that are missing. The caller holds the
// lock, or is the only one who knows the listener.
func (l *Listener) refill() {
	for len(l.reserved) < l.o.Reserve {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		l.reserved = append(l.reserved, f)
	}
}

// Accept implements [net.Listener]. It answers and closes connections over the
// bounds.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, reserved, err := l.accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: accepted, l: l, addr: addrOf(accepted), reserved: reserved, idle: true, since: l.o.Now()}
		reason, victim := l.admit(c)
		if victim != nil {
			l.o.Refused("idle")
			_ = victim.Close() // its handler finds out
		}
		if reason == "" {
			return c, nil
		}
		l.o.Refused(reason)
		_ = accepted.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(accepted, refusal) // the client may have gone
		_ = accepted.Close()
		if reserved {
			l.mu.Lock()
			l.refill()
			l.mu.Unlock()
		}
	}
}

// accept takes the next connection, with a descriptor of the reserve if there is no
// other.
func (l *Listener) accept() (c net.Conn, reserved bool, err error) {
	for {
		c, err = l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return c, reserved, err
		}
		l.mu.Lock()
		n := len(l.reserved)
		if n > 0 {
			_ = l.reserved[n-1].Close()
			l.reserved = l.reserved[:n-1]
		}
		l.mu.Unlock()
		if n == 0 {
			return nil, false, err
		}
		reserved = true
	}
}

// admit counts a connection, or says which bound it is over. victim is one that
// must be closed to make room.
func (l *Listener) admit(c *conn) (reason string, victim *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	exempt := slices.ContainsFunc(l.o.Exempt, func(p netip.Prefix) bool { return p.Contains(c.addr) })
	if l.o.PerAddress > 0 && !exempt && l.byAddr[c.addr] >= l.o.PerAddress {
		if victim = l.idlest(c, func(other *conn) bool { return other.addr == c.addr }); victim == nil {
			return "address", nil
		}
		l.forget(victim)
	} else if len(l.open) >= l.o.Max {
		if victim = l.idlest(c, func(*conn) bool { return true }); victim == nil {
			return "all", nil
		}
		l.forget(victim)
	}
	l.open[c] = struct{}{}
	l.byAddr[c.addr]++
	return "", victim
}

// idlest is the connection, of those that may go, that has been idle for longest,
// and long enough to make room for c; nil if there is none.
func (l *Listener) idlest(c *conn, may func(*conn) bool) (idlest *conn) {
	for other := range l.open {
		if other.idle && may(other) && c.since.Sub(other.since) >= settling && (idlest == nil || other.since.Before(idlest.since)) {
			idlest = other
		}
	}
	return idlest
}

// forget takes a connection off the count, once.
func (l *Listener) forget(c *conn) {
	if _, ok := l.open[c]; !ok {
		return
	}
	delete(l.open, c)
	if l.byAddr[c.addr]--; l.byAddr[c.addr] == 0 {
		delete(l.byAddr, c.addr)
	}
}

// Track is for [http.Server.ConnState]: it tells the listener which connections
// have no request under way.
func (l *Listener) Track(c net.Conn, state http.ConnState) {
	own, ok := c.(*conn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	own.idle, own.since = state == http.StateNew || state == http.StateIdle, l.o.Now()
}

// Open is how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// Close implements [net.Listener] and gives the reserve back.
func (l *Listener) Close() error {
	l.mu.Lock()
	for _, f := range l.reserved {
		_ = f.Close()
	}
	l.reserved, l.o.Reserve = nil, 0
	l.mu.Unlock()
	return l.Listener.Close()
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.close.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		c.l.forget(c)
		c.l.refill() // another may have taken what was given up for this one
	})
	return err
}

func addrOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
