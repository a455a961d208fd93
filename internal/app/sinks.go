package app

import (
	"errors"
	"fmt"
	"net/url"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/safehttp"
)

// deliveryGuard decides which addresses deliveries may go to.
func (a *App) deliveryGuard() *safehttp.Guard {
	return safehttp.New("delivery.allow_networks", config.Prefixes(a.config.Delivery.AllowNetworks))
}

// checkSink refuses a sink whose host is an address, or localhost, that
// deliveries may not go to. Names are judged when they are called.
func (a *App) checkSink(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return errors.New("is not a URL")
	}
	err = a.deliveryGuard().CheckHost(u.Hostname())
	if blocked, ok := errors.AsType[*safehttp.BlockedError](err); ok {
		return problem.Field{
			Message: fmt.Sprintf("would never be called: %v is %s", blocked.Addr, blocked.Why),
			Hint:    fmt.Sprintf("to permit it, add its network to %s or TOCSIN_DELIVERY_ALLOW_NETWORKS of the server", blocked.Key),
		}
	}
	if e, ok := errors.AsType[*safehttp.URLError](err); ok {
		return fmt.Errorf("the %s %s", e.Field, e.Reason)
	}
	return err
}
