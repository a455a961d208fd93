package delivery

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/schemas"
)

// FromTarget reads a subscription from what the API's object says.
func FromTarget(t schemas.Target) (Subscription, error) {
	o := t.Subscription
	id, err := uuid.Parse(o.ID)
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription id %q: %w", o.ID, err)
	}
	s := Subscription{
		ID: id, Name: o.Name, Owner: o.Owner, Version: o.Version, Protocol: o.Protocol, Sink: o.Sink,
		Active:   o.State == schemas.StateActive && !o.Config.Paused,
		Settings: o.ProtocolSettings,
		TLS:      TLS{CA: o.ProtocolSettings.CA, ServerName: o.ProtocolSettings.ServerName},
		Config:   fromConfig(o.Config),
	}
	for _, key := range t.SigningSecrets {
		s.Secrets = append(s.Secrets, Secret(key))
		if until, ok := t.SigningUntil[key]; ok {
			if s.SecretsUntil == nil {
				s.SecretsUntil = map[Secret]time.Time{}
			}
			s.SecretsUntil[Secret(key)] = until
		}
	}
	if c := t.Credential; c != nil {
		s.TLS.Cert, s.TLS.Key = c.Certificate, Secret(c.Key)
		switch c.CredentialType {
		case schemas.CredentialPlain:
			s.Credential = Credential{Username: c.Identifier, Password: Secret(c.Secret)}
		case schemas.CredentialAccessToken:
			s.Credential = Credential{Token: Secret(c.AccessToken)}
		}
	}
	return s, nil
}

func fromConfig(c schemas.SubscriptionConfig) Config {
	out := Config{
		Timeout: time.Duration(c.Timeout), Concurrency: c.Concurrency, Ordered: c.Ordered,
		Mode: ContentMode(c.Mode), BatchSize: c.BatchSize, Handshake: c.Handshake,
	}
	if r := c.Retry; r != nil {
		if r.Schedule != nil {
			out.Schedule = []time.Duration{}
		}
		for _, d := range r.Schedule {
			out.Schedule = append(out.Schedule, time.Duration(d))
		}
		if r.Jitter != nil {
			out.Jitter = *r.Jitter
			if out.Jitter == 0 {
				out.Jitter = -1
			}
		}
	}
	if r := c.Rate; r != nil {
		out.Rate, out.Burst = r.PerSecond, r.Burst
	}
	if b := c.Breaker; b != nil {
		out.Breaker = BreakerConfig{
			ConsecutiveFailures: b.ConsecutiveFailures, FailureRatio: b.FailureRatio, Window: time.Duration(b.Window),
			MinAttempts: b.MinAttempts, OpenFor: time.Duration(b.OpenFor), MaxOpenFor: time.Duration(b.MaxOpenFor),
			DisableAfter: time.Duration(b.DisableAfter),
		}
	}
	return out
}

// What a configuration may ask for at most.
const (
	minTimeout     = 10 * time.Millisecond
	maxTimeout     = 10 * time.Minute
	maxConcurrency = 1024
	maxBatch       = 1000
)

// Or fills in what c leaves open from d.
func (c Config) Or(d Config) Config {
	def(&c.Timeout, d.Timeout)
	def(&c.Jitter, d.Jitter)
	def(&c.Rate, d.Rate)
	def(&c.Burst, d.Burst)
	def(&c.Concurrency, d.Concurrency)
	def(&c.Mode, d.Mode)
	def(&c.BatchSize, d.BatchSize)
	if c.Schedule == nil {
		c.Schedule = d.Schedule
	}
	b := &c.Breaker
	def(&b.ConsecutiveFailures, d.Breaker.ConsecutiveFailures)
	def(&b.FailureRatio, d.Breaker.FailureRatio)
	def(&b.Window, d.Breaker.Window)
	def(&b.MinAttempts, d.Breaker.MinAttempts)
	def(&b.OpenFor, d.Breaker.OpenFor)
	def(&b.MaxOpenFor, d.Breaker.MaxOpenFor)
	def(&b.DisableAfter, d.Breaker.DisableAfter)
	return c.WithDefaults()
}

// WithDefaults fills in what c leaves open and keeps the rest within bounds: a
// timeout of 10 ms to 10 min, a concurrency of up to 1,024, batches of up to
// 1,000.
func (c Config) WithDefaults() Config {
	def(&c.Timeout, 15*time.Second)
	def(&c.Jitter, 0.2)
	def(&c.Concurrency, 16)
	def(&c.Burst, 1)
	def(&c.Mode, Structured)
	def(&c.BatchSize, 64)
	if c.Schedule == nil {
		c.Schedule = DefaultSchedule()
	}
	b := &c.Breaker
	def(&b.ConsecutiveFailures, 10)
	def(&b.FailureRatio, 0.6)
	def(&b.Window, time.Minute)
	def(&b.MinAttempts, 20)
	def(&b.OpenFor, 10*time.Second)
	def(&b.MaxOpenFor, 15*time.Minute)
	def(&b.DisableAfter, 5*24*time.Hour)
	if c.Ordered {
		c.Concurrency = 1
	}
	c.Timeout = min(max(c.Timeout, minTimeout), maxTimeout)
	c.Concurrency = min(max(c.Concurrency, 1), maxConcurrency)
	c.BatchSize = min(max(c.BatchSize, 1), maxBatch)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
