package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/schemas"
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

// ownSubjects are the NATS subjects that Tocsin itself reads or writes. An
// event delivered to its intake would come back as a message that nobody
// understands, which is an event again.
var ownSubjects = []string{"tocsin.manifests", "tocsin.updates", "tocsin.jobs.>", "tocsin.events.>", "tocsin.wake.>", "tocsin.probe"}

// ownIntake refuses subscriptions that deliver to this server's own subjects.
// It knows its NATS server by address; a name for it that the configuration
// does not use is not seen through.
func (a *App) ownIntake(spec schemas.Subscription) []problem.Field {
	if spec.Protocol != schemas.ProtocolNATS {
		return nil
	}
	overlaps := ""
	for _, own := range ownSubjects {
		if subjectMayBe(spec.ProtocolSettings.Subject, own) {
			overlaps = own
		}
	}
	if overlaps == "" {
		return nil
	}
	for _, sink := range append([]string{spec.Sink}, spec.ProtocolSettings.Failover...) {
		if a.ownNATS(sink) {
			return []problem.Field{{
				Field: "/protocolsettings/subject", Message: fmt.Sprintf("is this server's own %s, so that its events would come back to it", overlaps),
				Hint: "choose a subject that does not begin with tocsin.",
			}}
		}
	}
	return nil
}

// ownNATS reports whether a sink is the NATS server that this process uses.
func (a *App) ownNATS(sink string) bool {
	at := hostPort(sink)
	if urls := a.config.NATS.URL.Reveal(); urls != "" {
		for u := range strings.SplitSeq(urls, ",") {
			if same(at, hostPort(strings.TrimSpace(u))) {
				return true
			}
		}
		return false
	}
	return same(at, a.config.NATS.Listen) || same(at, hostPort(a.addr.NATS))
}

// hostPort is a NATS URL's host and port.
func hostPort(raw string) string {
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// same reports whether two addresses are one: all of this machine's loopback
// and wildcard addresses are.
func same(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return false
	}
	return hostA == hostB || local(hostA) && local(hostB)
}

func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// subjectMayBe reports whether a template can become a subject that a pattern
// matches. What is filled in is one part of a subject and may be anything.
func subjectMayBe(template, pattern string) bool {
	parts := strings.Split(template, ".")
	for i, want := range strings.Split(pattern, ".") {
		switch {
		case want == ">":
			return len(parts) > i
		case i >= len(parts):
			return false
		case parts[i] != want && !strings.Contains(parts[i], "{"):
			return false
		}
	}
	return len(parts) == strings.Count(pattern, ".")+1
}
