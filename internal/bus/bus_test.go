package bus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/traceparent"
)

// consume runs a consumer until the test ends.
func consume(t *testing.T, b *bus.Bus, subject string, n int, handle func(context.Context, bus.Message) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Consume(ctx, subject, n, handle); err != nil {
			t.Errorf("consume: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestPublishOncePerID(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	for range 3 {
		if err := b.Publish(t.Context(), bus.SubjectManifests, "one", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Backlog(t.Context(), bus.StreamIntake, bus.SubjectManifests); err != nil || n != 1 {
		t.Errorf("%d messages stored (%v), want 1", n, err)
	}
}

func TestPublishBatch(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const n = 1000
	var msgs []bus.Message
	for i := range n {
		msgs = append(msgs, bus.Message{Subject: bus.SubjectEvents + "ping.v1", ID: fmt.Sprint(i), Data: []byte("{}")})
	}
	for range 2 {
		if err := b.PublishBatch(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Backlog(t.Context(), bus.StreamEvents, bus.SubjectEvents+"ping.v1"); err != nil || got != n {
		t.Errorf("%d messages stored (%v), want %d", got, err, n)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	err := b.Publish(t.Context(), bus.SubjectManifests, "", make([]byte, bus.MaxPayload+1))
	if !errors.Is(err, nats.ErrMaxPayload) || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("got %v", err)
	}
	if err := b.Publish(t.Context(), bus.SubjectManifests, "", make([]byte, bus.MaxPayload-100)); err != nil {
		t.Errorf("just below the limit: %v", err)
	}
}

func TestConsumeOutcomes(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	type seen struct {
		data       string
		deliveries int
	}
	got := make(chan seen, 16)
	consume(t, b, bus.SubjectManifests, 1, func(_ context.Context, m bus.Message) error {
		got <- seen{string(m.Data), m.Deliveries}
		switch {
		case string(m.Data) == "bad":
			return fmt.Errorf("no: %w", bus.ErrTerminate)
		case m.Deliveries == 1 && string(m.Data) == "panics":
			panic("first time")
		case m.Deliveries == 1 && string(m.Data) == "fails":
			return errors.New("first time")
		}
		return nil
	})
	for _, data := range []string{"bad", "panics", "fails", "good"} {
		if err := b.Publish(t.Context(), bus.SubjectManifests, "", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	count := map[seen]int{}
	for range 6 {
		count[receive(t, got)]++
	}
	for _, want := range []seen{{"bad", 1}, {"panics", 1}, {"panics", 2}, {"fails", 1}, {"fails", 2}, {"good", 1}} {
		if count[want] != 1 {
			t.Errorf("%+v came %d times, want 1", want, count[want])
		}
	}
}

func TestConsumeInTheTraceContextOfTheMessage(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	seen := make(chan string, 1)
	consume(t, b, bus.SubjectManifests, 1, func(ctx context.Context, _ bus.Message) error {
		seen <- traceparent.From(ctx)
		return nil
	})
	m := bus.Message{Subject: bus.SubjectManifests, Header: nats.Header{"traceparent": {parent}}}
	if err := b.PublishBatch(t.Context(), []bus.Message{m}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, seen); got != parent {
		t.Errorf("handled in %q", got)
	}
}

func TestConsumeSurvivesRestartAndEmptying(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	b := srv.Connect()
	got := make(chan string, 16)
	consume(t, b, bus.SubjectJobs+"k", 2, func(_ context.Context, m bus.Message) error {
		got <- string(m.Data)
		return nil
	})
	publish := func(data string) {
		t.Helper()
		for ctx, deadline := t.Context(), time.Now().Add(30*time.Second); ; {
			err := b.Publish(ctx, bus.SubjectJobs+"k", data, []byte(data))
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // between two polls
		}
	}
	publish("first")
	if s := receive(t, got); s != "first" {
		t.Errorf("got %s", s)
	}
	srv.Restart()
	publish("after restart")
	if s := receive(t, got); s != "after restart" {
		t.Errorf("got %s", s)
	}
	srv.Empty()
	publish("after emptying")
	if s := receive(t, got); s != "after emptying" {
		t.Errorf("got %s", s)
	}
}

func TestStoredSurvivesRestart(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	if err := srv.Connect().Publish(t.Context(), bus.SubjectUpdates, "", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	srv.Restart()
	got := make(chan string, 1)
	consume(t, srv.Connect(), bus.SubjectUpdates, 1, func(_ context.Context, m bus.Message) error {
		got <- string(m.Data)
		return nil
	})
	if s := receive(t, got); s != "kept" {
		t.Errorf("got %s", s)
	}
}

func TestOneHandlerAtATime(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	const n = 50
	var active [n]atomic.Int32
	done := make(chan struct{}, 2*n)
	handle := func(_ context.Context, m bus.Message) error {
		i := m.Data[0]
		if active[i].Add(1) != 1 {
			t.Errorf("message %d came twice", i)
		}
		done <- struct{}{}
		return nil
	}
	consume(t, srv.Connect(), bus.SubjectManifests, 3, handle)
	consume(t, srv.Connect(), bus.SubjectManifests, 3, handle)
	b := srv.Connect()
	for i := range n {
		if err := b.Publish(t.Context(), bus.SubjectManifests, "", []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		receive(t, done)
	}
}

func TestStopHandsOverAtOnce(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	b := srv.Connect()
	started := make(chan struct{})
	stop := consume(t, b, bus.SubjectManifests, 1, func(ctx context.Context, _ bus.Message) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	})
	if err := b.Publish(t.Context(), bus.SubjectManifests, "", []byte("x")); err != nil {
		t.Fatal(err)
	}
	receive(t, started)
	got := make(chan int, 1)
	consume(t, srv.Connect(), bus.SubjectManifests, 1, func(_ context.Context, m bus.Message) error {
		got <- m.Deliveries
		return nil
	})
	begin := time.Now()
	stop()
	if n := receive(t, got); n != 2 {
		t.Errorf("delivery %d, want 2", n)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("handed over after %v", took)
	}
}

func TestWake(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	a, b := srv.Connect(), srv.Connect()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken := b.OnWake(ctx, bus.WakeDelivery)
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		a.Wake(bus.WakeDelivery)
	}
	receive(t, woken)
	srv.Restart()
	for !b.Connected() {
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		time.Sleep(10 * time.Millisecond) // between two polls
	}
	receive(t, woken) // since hints may have been lost
}

func TestTwoServersOneDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	ctx, cancel := context.WithCancel(t.Context())
	first := bus.Embedded(bus.ServerOptions{Dir: dir, Listen: "127.0.0.1:0"})
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	url, err := first.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Embedded(bus.ServerOptions{Dir: dir, Listen: "127.0.0.1:0"}).Run(ctx); err == nil {
		t.Error("a second server on the same directory")
	}
	taken := bus.Embedded(bus.ServerOptions{Dir: t.TempDir(), Listen: strings.TrimPrefix(url, "nats://")})
	if err := taken.Run(ctx); err == nil || !strings.Contains(err.Error(), "nats.listen") {
		t.Errorf("a taken port: %v", err)
	}
	if _, err := taken.URL(ctx); err == nil {
		t.Error("a server that failed has a URL")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	srv := bus.Embedded(bus.ServerOptions{Dir: dir, Listen: "127.0.0.1:0", User: "u", Password: "p"})
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	url, err := srv.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Connect(ctx, url, bus.Options{}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without password: %v", err)
	}
	b, err := srv.Connect(ctx, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(ctx); err != nil {
		t.Error(err)
	}
	b.Close()
	if err := b.Check(ctx); err == nil {
		t.Error("a closed connection is fine")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, err = bus.Connect(t.Context(), url, bus.Options{ConnectTimeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "reachable") {
		t.Errorf("nobody there: %v", err)
	}
}

// A client of the embedded server hands in work and reads events, and neither
// reads nor changes anything else.
func TestClientsOfTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	srv := bus.Embedded(bus.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", User: "u", Password: "p"})
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	own, err := srv.Connect(ctx, bus.Options{Streams: bus.StreamOptions{JobKinds: []string{"known"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		own.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	url, err := srv.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 16)
	nc, err := nats.Connect(url, nats.UserInfo("u", "p"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{bus.SubjectManifests, bus.SubjectUpdates} {
		if ack, err := js.Publish(ctx, subject, []byte("{}")); err != nil || ack.Stream != bus.StreamIntake {
			t.Errorf("publish on %s: %+v, %v", subject, ack, err)
		}
	}
	events, err := nc.SubscribeSync(bus.SubjectEvents + ">")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := own.Publish(ctx, bus.SubjectEvents+"x", "1", []byte("event")); err != nil {
		t.Fatal(err)
	}
	if m, err := events.NextMsg(5 * time.Second); err != nil || string(m.Data) != "event" {
		t.Errorf("event: %v, %v", m, err)
	}

	violation := func(what string) {
		t.Helper()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s is allowed", what)
		}
	}
	for _, subject := range []string{
		bus.SubjectJobs + "known", bus.SubjectEvents + "forged", bus.WakeJobs, "$JS.API.STREAM.PURGE." + bus.StreamJobs,
		"$JS.API.STREAM.MSG.GET." + bus.StreamJobs, "$JS.API.CONSUMER.CREATE." + bus.StreamJobs + ".x", "_TOCSIN_INBOX.x",
	} {
		if err := nc.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		violation("publish on " + subject)
	}
	for _, subject := range []string{">", "tocsin.>", bus.SubjectJobs + ">", bus.SubjectManifests, "$JS.>", "_TOCSIN_INBOX.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		violation("subscribe to " + subject)
	}

	// Tocsin itself hands over jobs, of the kinds that somebody runs alone.
	if err := own.Publish(ctx, bus.SubjectJobs+"known", "1", []byte("x")); err != nil {
		t.Error(err)
	}
	short, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	if err := own.Publish(short, bus.SubjectJobs+"unknown", "2", []byte("x")); err == nil {
		t.Error("a job of a kind that nobody runs was stored")
	}
}

// A server without login is for this machine alone.
func TestOpenServersAreRefused(t *testing.T) {
	t.Parallel()
	if err := bus.Embedded(bus.ServerOptions{Dir: t.TempDir(), Listen: "0.0.0.0:0"}).Run(t.Context()); !errors.Is(err, bus.ErrOpen) {
		t.Errorf("on every address without login: %v", err)
	}
}

// The settings that durability rests on.
func TestStreams(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bus.StreamIntake, bus.StreamJobs, bus.StreamEvents} {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		if c.Storage != jetstream.FileStorage || c.MaxBytes <= 0 {
			t.Errorf("%s: storage %v, max bytes %d", name, c.Storage, c.MaxBytes)
		}
		if wantOld := name == bus.StreamEvents; (c.Discard == jetstream.DiscardOld) != wantOld {
			t.Errorf("%s: discards %v", name, c.Discard)
		}
	}
}

// On a server of somebody's own, clients may usually subscribe to _INBOX.>: what
// they hear there is not what Tocsin is answered.
func TestAnswersAreNotInEverybodysInbox(t *testing.T) {
	t.Parallel()
	s := bustest.NewServer(t)
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard, err := nc.SubscribeSync("_INBOX.>")
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	own, err := nc.SubscribeSync(bus.InboxPrefix + ".>")
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	b, err := bus.Connect(t.Context(), s.URL(), bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Publish(t.Context(), bus.SubjectManifests, "1", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := own.NextMsg(time.Minute); err != nil {
		t.Errorf("no answer under %s: %v", bus.InboxPrefix, err)
	}
	if nc.Flush() != nil {
		t.Fatal("flush")
	}
	if n, _, _ := heard.Pending(); n != 0 {
		t.Errorf("%d answers for everybody to read", n)
	}
}
