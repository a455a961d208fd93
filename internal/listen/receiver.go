package listen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"tocsin.dev/tocsin/internal/standardwebhooks"
)

const (
	// DefaultMaxBody bounds a request's body, in bytes.
	DefaultMaxBody = 32 << 20
	// remembered is how many message ids are kept to tell repeats.
	remembered = 10_000
)

// Received is one message as it came.
type Received struct {
	// ID is the webhook-id header, "" without one.
	ID string
	At time.Time
	// Scheme is how the signature was verified: v1 or v1a, or "" if there was
	// no key to verify it with.
	Scheme string
	// Signed reports whether the message carried a signature at all.
	Signed bool
	// Repeat reports whether a message with this id came before.
	Repeat bool
	// Events are the events in it: one, or several of a batch.
	Events []event.Event
	// Notification is set instead for a message in Clair's form.
	Notification *Notification
	Body         []byte
	Header       http.Header
}

// Notification is a message in Clair's form.
type Notification struct {
	ID       string `json:"notification_id"`
	Callback string `json:"callback"`
}

// Options are how to receive. Receive is called for one message at a time; its
// error is answered as 500, so that the sender tries again.
type Options struct {
	// Keys verify signatures; with none, unsigned messages are received too.
	Keys      []standardwebhooks.Key
	Tolerance time.Duration // 0: standardwebhooks.Tolerance
	MaxBody   int64         // 0: DefaultMaxBody
	// Forward, if not empty, is the URL every message is sent on to; what it
	// answers is what the sender is answered.
	Forward string
	Client  *http.Client // for Forward; nil: one with a timeout of 30 s
	// Own reports whether a message is the receiver's own test; it is answered,
	// and neither forwarded, counted nor received. Nil: none is.
	Own func(Received) bool
	// Once, if not 0, is how many messages to receive before Serve ends.
	Once    int
	Receive func(context.Context, Received) error
	Now     func() time.Time // nil: time.Now
}

// Receiver is the webhook's handler. It is safe for concurrent use.
type Receiver struct {
	o    Options
	done chan struct{} // closed once Once messages have been received

	mu    sync.Mutex
	seen  map[string]bool
	order []string
	count int
}

// New returns a receiver; it starts nothing.
func New(o Options) *Receiver {
	if o.Tolerance == 0 {
		o.Tolerance = standardwebhooks.Tolerance
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = &http.Client{
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Receiver{o: o, done: make(chan struct{}), seen: map[string]bool{}}
}

// Serve receives on ln until ctx ends or Options.Once messages have come; then
// it lets running requests finish. It closes ln.
func (r *Receiver) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("receiving: %w", err)
	case <-ctx.Done():
	case <-r.done:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// ServeHTTP receives one message, or answers the handshake of the CloudEvents
// webhook specification (OPTIONS).
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodPost:
	case http.MethodOptions:
		if origin := req.Header.Get("WebHook-Request-Origin"); origin != "" {
			w.Header().Set("WebHook-Allowed-Origin", origin)
			w.Header().Set("WebHook-Allowed-Rate", "*")
		}
		w.Header().Set("Allow", "POST, OPTIONS")
		return
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		http.Error(w, "events are sent by POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, r.o.MaxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, big := errors.AsType[*http.MaxBytesError](err); big {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	m := Received{
		ID: req.Header.Get(standardwebhooks.HeaderID), At: r.o.Now(), Body: body, Header: req.Header,
		Signed: req.Header.Get(standardwebhooks.HeaderSignature) != "",
	}
	if len(r.o.Keys) > 0 {
		if m.Scheme, err = standardwebhooks.Verify(r.o.Keys, req.Header, body, m.At, r.o.Tolerance); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	if err := m.parse(req.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.o.Own != nil && r.o.Own(m) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status, err := r.take(req.Context(), m)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	w.WriteHeader(status)
}

// take forwards a message and hands it on; the latter one at a time, so that
// what is printed does not mix.
func (r *Receiver) take(ctx context.Context, m Received) (int, error) {
	status := http.StatusNoContent
	if r.o.Forward != "" {
		var err error
		if status, err = r.forward(ctx, m); err != nil {
			return http.StatusBadGateway, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Once > 0 && r.count >= r.o.Once {
		return http.StatusServiceUnavailable, errors.New("this receiver has seen enough")
	}
	m.Repeat = r.seen[m.ID]
	if r.o.Receive != nil {
		if err := r.o.Receive(ctx, m); err != nil {
			return http.StatusInternalServerError, err
		}
	}
	r.remember(m.ID)
	if r.count++; r.count == r.o.Once {
		close(r.done)
	}
	return status, nil
}

// remember notes an id, and forgets the oldest.
func (r *Receiver) remember(id string) {
	if id == "" || r.seen[id] {
		return
	}
	r.seen[id] = true
	r.order = append(r.order, id)
	if len(r.order) > remembered {
		delete(r.seen, r.order[0])
		r.order = r.order[1:]
	}
}

// forward sends a message on with the headers that belong to it.
func (r *Receiver) forward(ctx context.Context, m Received) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.o.Forward, bytes.NewReader(m.Body))
	if err != nil {
		return 0, fmt.Errorf("forwarding: %w", err)
	}
	for name, values := range m.Header {
		l := strings.ToLower(name)
		if l == "content-type" || l == "traceparent" || l == "user-agent" || strings.HasPrefix(l, "webhook-") || strings.HasPrefix(l, "ce-") {
			req.Header[name] = values
		}
	}
	resp, err := r.o.Client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("forwarding: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return resp.StatusCode, nil
}

// parse finds the events in a message, in any of the CloudEvents HTTP modes.
func (m *Received) parse(ctx context.Context) error {
	media, _, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("Content-Type: %w", err)
	}
	switch {
	case media == event.ApplicationCloudEventsBatchJSON:
		if err := json.Unmarshal(m.Body, &m.Events); err != nil {
			return fmt.Errorf("not a batch of CloudEvents: %w", err)
		}
	case media == event.ApplicationCloudEventsJSON || m.Header.Get("ce-specversion") != "":
		msg := cehttp.NewMessage(m.Header, io.NopCloser(bytes.NewReader(m.Body)))
		e, err := binding.ToEvent(ctx, msg)
		if err != nil {
			return fmt.Errorf("not a CloudEvent: %w", err)
		}
		m.Events = []event.Event{*e}
	default:
		var n Notification
		if err := json.Unmarshal(m.Body, &n); err != nil || n.ID == "" {
			return fmt.Errorf("neither a CloudEvent nor a notification in Clair's form: %s", media)
		}
		m.Notification = &n
		return nil
	}
	for i, e := range m.Events {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("event %d is not a valid CloudEvent: %w", i+1, err)
		}
	}
	return nil
}
