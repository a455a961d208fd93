package broker

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"tocsin.dev/tocsin/delivery"
)

// Schemes are the URL schemes of a protocol and the port each stands for.
type Schemes map[string]string

// Address is one broker of a subscription.
type Address struct {
	URL *url.URL
	// HostPort is what to dial; the port is the scheme's where the URL names
	// none.
	HostPort string
	// User and Password are the URL's, or else the subscription's credential.
	User, Password string
}

// String is the address without credentials.
func (a Address) String() string { return a.URL.Scheme + "://" + a.HostPort }

// Addresses lists the brokers of a subscription: its sink first, then the
// failover list. An error is of class [delivery.ClassInvalid] and names the
// URL that is wrong, without its credentials.
func Addresses(sub delivery.Subscription, failover []string, schemes Schemes) ([]Address, error) {
	var out []Address
	for i, raw := range append([]string{sub.Sink}, failover...) {
		a, err := parse(raw, schemes)
		if err != nil {
			field := "sink"
			if i > 0 {
				field = fmt.Sprintf("protocolsettings.failover[%d]", i-1)
			}
			return nil, delivery.Failed(delivery.ClassInvalid, fmt.Errorf("%s: %w", field, err))
		}
		if a.User == "" {
			a.User, a.Password = sub.Credential.Username, string(sub.Credential.Password)
		}
		out = append(out, a)
	}
	return out, nil
}

func parse(raw string, schemes Schemes) (Address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Address{}, fmt.Errorf("not a URL") // the parser's error quotes it all, password included
	}
	port, ok := schemes[u.Scheme]
	if !ok {
		return Address{}, fmt.Errorf("scheme %q is not one of %s", u.Scheme, strings.Join(slices.Sorted(maps.Keys(schemes)), ", "))
	}
	if u.Hostname() == "" {
		return Address{}, fmt.Errorf("no host in %s", u.Redacted())
	}
	if u.Port() != "" {
		port = u.Port()
	}
	a := Address{URL: u, HostPort: net.JoinHostPort(u.Hostname(), port)}
	if u.User != nil {
		a.User = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	return a, nil
}
