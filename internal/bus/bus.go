// Package bus connects Tocsin's roles through NATS JetStream: work to hand
// over, events for those who read NATS, and hints that there is something to
// do. The server is an external one or runs in this process ([Embedded]).
//
// It guarantees:
//   - [Bus.Publish] returns nil only when the stream has stored the message; on
//     the embedded server that means synced to disk. Publishing again with the
//     same id within two minutes stores nothing new.
//   - [Bus.Consume] hands over every stored message until its handler has
//     returned nil for it, across restarts of either side, to one handler at a
//     time as long as that one is alive.
//   - The connection comes back by itself, and so do streams and consumers that
//     a server has lost.
//
// It does not guarantee order, and does not guarantee that a message is handed
// over only once. What a server has lost is gone: whoever cannot afford that
// keeps rows and publishes again. Hints ([Bus.Wake]) may be lost at any time.
// A message is at most one MiB by default; the server refuses larger ones and
// closes the connection of a client that tries.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/internal/retry"
)

const (
	// requestTimeout bounds one request to the server.
	requestTimeout = 10 * time.Second
	// defaultConnectTimeout is how long the first connection may take.
	defaultConnectTimeout = 30 * time.Second
	reconnectWait         = 500 * time.Millisecond
)

// Options say how to use a server. The zero value will do for a single server
// without login.
type Options struct {
	// Name is shown for this connection by the server.
	Name string
	// ConnectTimeout bounds the first connection, over all attempts; 30 s if zero.
	ConnectTimeout time.Duration
	// CredentialsFile, CAFile, CertFile and KeyFile are paths, each optional: a
	// NATS credentials file, the authorities to trust, and a client certificate.
	CredentialsFile, CAFile, CertFile, KeyFile string
	// InboxPrefix begins the subjects on which answers to this process come; default
	// [InboxPrefix]. Answers hold jobs: nobody else should be able to subscribe there.
	InboxPrefix string
	// Streams sets replicas and limits of the streams.
	Streams StreamOptions
	Logger  *slog.Logger
}

// InboxPrefix is where Tocsin hears answers unless it is told otherwise: not
// _INBOX, where every client of a NATS server usually may subscribe.
const InboxPrefix = "_TOCSIN_INBOX"

// A Bus is a connection to a server whose streams have been declared. Its
// methods may be called concurrently.
type Bus struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	streams StreamOptions

	mu    sync.Mutex
	hints map[chan struct{}]struct{} // woken when the connection is back
	epoch context.Context            // ends when the connection is back
	next  context.CancelFunc
}

// Connect connects to the servers at url, a comma-separated list, and declares
// the streams. It keeps trying until o.ConnectTimeout or the end of ctx; once
// connected, it reconnects for ever. The caller closes the Bus.
func Connect(ctx context.Context, url string, o Options) (*Bus, error) {
	return connect(ctx, url, o)
}

func connect(ctx context.Context, url string, o Options, extra ...nats.Option) (*Bus, error) {
	b := &Bus{log: o.Logger, streams: o.Streams.withDefaults(), hints: map[chan struct{}]struct{}{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.epoch, b.next = context.WithCancel(context.Background())
	opts := append([]nats.Option{
		nats.Name(o.Name),
		nats.CustomInboxPrefix(cmp.Or(o.InboxPrefix, InboxPrefix)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		// What could not be sent is an error for the caller at once, not a
		// surprise later.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("NATS connection lost; reconnecting", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Info("NATS connection is back", "server", nc.ConnectedUrlRedacted())
			b.reconnected()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.log.Warn("NATS reports an error", "subject", subject, "error", err)
		}),
	}, extra...)
	if o.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if o.CAFile != "" {
		opts = append(opts, nats.RootCAs(o.CAFile))
	}
	if o.CertFile != "" {
		opts = append(opts, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	timeout := o.ConnectTimeout
	if timeout == 0 {
		timeout = defaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := dial(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	b.nc = nc
	if b.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout)); err == nil {
		err = b.declareWhenReady(ctx)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// dial tries until it has a connection or ctx ends. A refused login or an
// address that makes no sense ends it at once.
func dial(ctx context.Context, url string, opts []nats.Option) (*nats.Conn, error) {
	var nc *nats.Conn
	err := retry.Pauses{First: reconnectWait, Most: reconnectWait}.Do(ctx, func() (err error) {
		nc, err = nats.Connect(url, opts...)
		switch {
		case errors.Is(err, nats.ErrAuthorization):
			return retry.Permanent(fmt.Errorf("NATS: %w (check user, password, token or credentials file)", err))
		case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
			return retry.Permanent(fmt.Errorf("NATS: %w (tls:// in the URL has to agree with the server)", err))
		case err != nil:
			return fmt.Errorf("NATS: no connection: %w (is the server running and reachable?)", err)
		}
		return nil
	})
	return nc, err
}

// Close ends the connection. Messages being handled are handed over again
// later, elsewhere.
func (b *Bus) Close() {
	b.nc.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next()
}

// Connected says whether there is a connection now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }
