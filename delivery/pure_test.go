package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

func TestNextDelay(t *testing.T) {
	t.Parallel()
	s := DefaultSchedule()
	for attempts, want := range map[int]time.Duration{
		1: 5 * time.Second, 2: 30 * time.Second, 3: 2 * time.Minute, 4: 10 * time.Minute, 5: 30 * time.Minute, 6: 2 * time.Hour,
		7: 5 * time.Hour, 8: 10 * time.Hour, 9: 14 * time.Hour, 10: 20 * time.Hour, 11: 24 * time.Hour,
	} {
		if d, ok := NextDelay(s, attempts, 0, 0.2, 0.5); !ok || d != want {
			t.Errorf("after %d attempts %v %v, want %v", attempts, d, ok, want)
		}
	}
	for _, attempts := range []int{0, 12, 13, 1000} {
		if d, ok := NextDelay(s, attempts, time.Minute, 0.2, 0.5); ok {
			t.Errorf("after %d attempts there is another one, in %v", attempts, d)
		}
	}
	if d, _ := NextDelay(s, 1, 1000*time.Hour, 0.2, 0); d != MaxRetryAfter {
		t.Errorf("a Retry-After of 1000 h means %v", d)
	}
	if d, _ := NextDelay(s, 6, time.Second, 0.2, 0.5); d != 2*time.Hour {
		t.Errorf("a Retry-After of a second at the sixth failure means %v", d)
	}
}

func TestNextDelayBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSchedule()
		attempts := rapid.IntRange(1, len(s)).Draw(t, "attempts")
		jitter := rapid.Float64Range(0, 1).Draw(t, "jitter")
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		after := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "retryAfter"))
		d, ok := NextDelay(s, attempts, after, jitter, random)
		base, asked := float64(s[attempts-1]), float64(min(after, MaxRetryAfter))
		lo, hi := max(base*(1-jitter)-1, asked), max(base, asked)*(1+jitter)+1
		if !ok || float64(d) < lo || float64(d) > hi {
			t.Fatalf("%v is not within [%v, %v]", d, time.Duration(lo), time.Duration(hi))
		}
	})
}

func TestOpenFor(t *testing.T) {
	t.Parallel()
	c := BreakerConfig{OpenFor: 10 * time.Second, MaxOpenFor: time.Minute}
	for n, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 4: time.Minute, 500: time.Minute} {
		if d := openFor(c, n); d != want {
			t.Errorf("open for %v the %dth time, want %v", d, n, want)
		}
	}
}

func TestSnippet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "bytes"))
		out := snippet(in)
		if len(out) > SnippetLimit || !utf8.ValidString(out) || strings.ContainsRune(out, 0) {
			t.Fatalf("%d bytes, valid %v", len(out), utf8.ValidString(out))
		}
	})
	if s := snippet(strings.Repeat("é", SnippetLimit)); len(s) < SnippetLimit-2 {
		t.Errorf("%d bytes kept", len(s))
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for want, errs := range map[Class][]error{
		ClassDelivered: {nil},
		ClassBlocked:   {fmt.Errorf("x: %w", ErrBlocked), &net.OpError{Op: "dial", Err: &safehttp.BlockedError{}}},
		ClassTimeout: {
			context.DeadlineExceeded, errAttemptTimeout, &net.DNSError{IsTimeout: true}, &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT},
		},
		ClassCanceled: {fmt.Errorf("x: %w", context.Canceled)},
		ClassDNS:      {&net.DNSError{IsNotFound: true}},
		ClassConnect:  {syscall.ECONNREFUSED, errors.New("EOF")},
		ClassTLS: {
			&tls.CertificateVerificationError{Err: errors.New("x")}, x509.UnknownAuthorityError{}, tls.RecordHeaderError{},
			&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")},
		},
		ClassAuth: {fmt.Errorf("x: %w", Failed(ClassAuth, context.Canceled))},
	} {
		for _, err := range errs {
			if got := Classify(err); got != want {
				t.Errorf("%v is %s, want %s", err, got, want)
			}
		}
	}
}

func TestFromTarget(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	none := 0.0
	got, err := FromTarget(schemas.Target{
		Subscription: schemas.Subscription{
			ID: id.String(), Name: "n", Owner: "o", Version: 7, State: schemas.StateActive, Protocol: schemas.ProtocolAMQP, Sink: "amqps://x/",
			ProtocolSettings: schemas.ProtocolSettings{Exchange: "e", CA: "ca", ServerName: "s"},
			Config: schemas.SubscriptionConfig{
				Retry: &schemas.Retry{Schedule: []schemas.Duration{schemas.Duration(time.Second)}, Jitter: &none},
				Rate:  &schemas.Rate{PerSecond: 2.5, Burst: 3}, Ordered: true, Concurrency: 9,
			},
		},
		Credential:     &schemas.SinkCredential{CredentialType: schemas.CredentialPlain, Identifier: "u", Secret: "p", Certificate: "c", Key: "k"},
		SigningSecrets: []string{"whsec_x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got.Config = got.Config.Or(Config{Timeout: time.Second, Concurrency: 4})
	want := Subscription{
		ID: id, Name: "n", Owner: "o", Version: 7, Active: true, Protocol: "AMQP", Sink: "amqps://x/",
		Settings:   schemas.ProtocolSettings{Exchange: "e", CA: "ca", ServerName: "s"},
		Credential: Credential{Username: "u", Password: "p"}, Secrets: []Secret{"whsec_x"},
		TLS: TLS{CA: "ca", Cert: "c", Key: "k", ServerName: "s"},
		Config: Config{
			Schedule: []time.Duration{time.Second}, Timeout: time.Second, Jitter: -1, Rate: 2.5, Burst: 3, Concurrency: 1, Ordered: true,
			Mode: Structured, BatchSize: 64,
			Breaker: BreakerConfig{
				ConsecutiveFailures: 10, FailureRatio: 0.6, Window: time.Minute, MinAttempts: 20,
				OpenFor: 10 * time.Second, MaxOpenFor: 15 * time.Minute, DisableAfter: 120 * time.Hour,
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := fmt.Sprintf("%v %+v %#v", got, got.Credential, got.Secrets); strings.Contains(s, "whsec_x") || strings.Contains(s, "p}") {
		t.Errorf("secrets show: %s", s)
	}
}

func TestFloorAndMoment(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	if id := uuid7.Floor(at); uuid7.Time(id) != at || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s is %v, version %d", id, uuid7.Time(id), id.Version())
	}
	if id := uuid7.New(); time.Since(uuid7.Time(id)) > time.Second || uuid7.Floor(uuid7.Time(id)).String() > id.String() {
		t.Errorf("%s is at %v, whose floor is %s", id, uuid7.Time(id), uuid7.Floor(uuid7.Time(id)))
	}
}
