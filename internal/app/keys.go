package app

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/telemetry"
	"tocsin.dev/tocsin/notifier/subscription"
)

// keyFile is the name, under the data directory, of the file with the key that
// was made there, where the configuration names none.
const keyFile = "secret.key"

// keyring is the configured keys, or the key in the data directory. A first key is
// made there only while nothing in the database is sealed with another: a data
// directory that was lost must not look like a new one.
func (a *App) keyring(ctx context.Context, pool *pgxpool.Pool) (*secrets.Keyring, error) {
	if len(a.config.Secrets.Keys) == 0 {
		path := filepath.Join(a.config.DataDir, keyFile)
		return secrets.File(path, func() error {
			missing, err := subscription.MissingKeys(ctx, pool, nil)
			if err != nil || len(missing) == 0 {
				return err
			}
			return fmt.Errorf("the database holds secrets of %s, and there is no key in %s: put the key file of the process that sealed them there, "+
				"or its key into secrets.keys (TOCSIN_SECRETS_KEYS). If it is lost for good, set secrets.keys to a new one "+
				"(openssl rand -base64 32) and rotate the subscriptions' secrets", sealedWith(missing), path)
		})
	}
	keys := make([][]byte, len(a.config.Secrets.Keys))
	for i, k := range a.config.Secrets.Keys {
		raw, err := base64.StdEncoding.DecodeString(k.Reveal())
		if err != nil {
			return nil, fmt.Errorf("secrets.keys[%d]: not base64", i)
		}
		keys[i] = raw
	}
	return secrets.New(keys...)
}

// sealedWith is missing keys in words.
func sealedWith(missing []subscription.MissingKey) string {
	var parts []string
	for _, m := range missing[:min(len(missing), 3)] {
		noun := "subscriptions"
		if m.Subscriptions == 1 {
			noun = "subscription"
		}
		parts = append(parts, fmt.Sprintf("%d %s sealed with key %s", m.Subscriptions, noun, m.ID))
	}
	if more := len(missing) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("more under %d other keys", more))
	}
	return strings.Join(parts, ", ")
}

// keyWatchInterval is how often secrets are looked for that can't be opened.
const keyWatchInterval = 30 * time.Second

// keyWatch says which subscriptions wait because this process lacks the key of
// their secrets: in the log when it changes, in /readyz and as a metric.
type keyWatch struct {
	pool    *pgxpool.Pool
	ring    *secrets.Keyring
	log     *slog.Logger
	waiting prometheus.Gauge
	said    atomic.Pointer[string]
}

func (k *keyWatch) observe(r prometheus.Registerer, h *telemetry.Health) error {
	k.waiting = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_secrets_unreadable_subscriptions",
		Help: "Subscriptions whose deliveries wait because their secrets are sealed with a key that this process does not have.",
	})
	h.Note("secrets", func() string {
		if s := k.said.Load(); s != nil {
			return *s
		}
		return ""
	})
	return r.Register(k.waiting)
}

// run looks until ctx ends; the first look is at once.
func (k *keyWatch) run(ctx context.Context) error {
	tick := time.NewTicker(keyWatchInterval)
	defer tick.Stop()
	for {
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "could not look for secrets that can't be opened", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k *keyWatch) look(ctx context.Context) error {
	missing, err := subscription.MissingKeys(ctx, k.pool, k.ring.IDs())
	if err != nil {
		return err
	}
	total, now := 0, ""
	for _, m := range missing {
		total += m.Subscriptions
	}
	if len(missing) > 0 {
		now = "deliveries wait: " + sealedWith(missing) + ", which this process does not have; see secrets.keys"
	}
	k.waiting.Set(float64(total))
	before := k.said.Swap(&now)
	switch {
	case now != "" && (before == nil || *before != now):
		k.log.ErrorContext(ctx, "secrets of subscriptions can't be opened; their deliveries wait", "reason", now)
	case now == "" && before != nil && *before != "":
		k.log.InfoContext(ctx, "all secrets of subscriptions can be opened again")
	}
	return nil
}
