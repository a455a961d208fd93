package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
)

// consentFor is how long a sink's consent is remembered.
const consentFor = time.Hour

type consentKey struct {
	sub     uuid.UUID
	version int64
}

// consent is a sink's agreement to be called, with the rate it allows in
// messages a second; 0 means any.
type consent struct {
	rate  float64
	until time.Time
}

// handshake asks the sink whether it wants events from here, as "HTTP 1.1 Web
// Hooks for Event Delivery", section 4, has it, and returns the rate it
// allows. Without WebHook-Allowed-Origin there is no consent. The asynchronous
// form, with a callback, is not offered.
func (o *Opener) handshake(ctx context.Context, t *target, sub delivery.Subscription) (float64, error) {
	key := consentKey{sub.ID, sub.Version}
	now := time.Now()
	o.mu.Lock()
	for k, c := range o.consents {
		if now.After(c.until) {
			delete(o.consents, k)
		}
	}
	known, ok := o.consents[key]
	o.mu.Unlock()
	if ok {
		return known.rate, nil
	}
	rate, err := t.ask(ctx, o.o.Origin, sub.Config.Rate)
	if err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.consents[key] = consent{rate: rate, until: now.Add(consentFor)}
	return rate, nil
}

// ask makes the OPTIONS request. perSecond is the rate that is wished for, 0
// for any.
func (t *target) ask(ctx context.Context, origin string, perSecond float64) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, t.url.String(), nil)
	if err != nil {
		return 0, delivery.Failed(delivery.ClassInvalid, err)
	}
	req.Header = t.header.Clone()
	req.Header.Set("WebHook-Request-Origin", origin)
	if perSecond > 0 {
		req.Header.Set("WebHook-Request-Rate", strconv.Itoa(int(math.Ceil(perSecond*60))))
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return 0, failure(ctx, err).Err
	}
	timer := time.AfterFunc(maxBodyTime, cancel)
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	timer.Stop()
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return 0, delivery.Failed(delivery.ClassAuth, fmt.Errorf("handshake: the sink answered OPTIONS with %d", resp.StatusCode))
	}
	return allowed(resp.Header, origin)
}

// allowed reads the sink's permission.
func allowed(h http.Header, origin string) (float64, error) {
	switch v := strings.TrimSpace(h.Get("WebHook-Allowed-Origin")); {
	case v == "":
		return 0, delivery.Failed(delivery.ClassAuth, errors.New("handshake: the sink's answer has no WebHook-Allowed-Origin"))
	case v != "*" && !strings.EqualFold(v, origin):
		return 0, delivery.Failed(delivery.ClassAuth, fmt.Errorf("handshake: the sink allows %q, not %q", v, origin))
	}
	v := strings.TrimSpace(h.Get("WebHook-Allowed-Rate"))
	if v == "" || v == "*" {
		return 0, nil
	}
	perMinute, err := strconv.ParseUint(v, 10, 31)
	if err != nil || perMinute == 0 {
		return 0, delivery.Failed(delivery.ClassAuth, fmt.Errorf("handshake: WebHook-Allowed-Rate %q: must be * or a number of requests a minute above 0", v))
	}
	return float64(perMinute) / 60, nil
}
