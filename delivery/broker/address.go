package broker

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/problem"
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
	// VHost is the virtual host in the URL's path, unescaped; "" if it has none.
	VHost string
}

// String is the address without credentials.
func (a Address) String() string { return a.URL.Scheme + "://" + a.HostPort }

// Addresses lists the brokers of a subscription: its sink first, then the
// failover list. vhost says that the path of a URL names a virtual host; if
// not, a URL has no path. What is wrong is named without credentials.
func Addresses(sub delivery.Subscription, schemes Schemes, vhost bool) ([]Address, []problem.Field) {
	var out []Address
	var problems []problem.Field
	for i, raw := range append([]string{sub.Sink}, sub.Settings.Failover...) {
		a, err := parse(raw, schemes, vhost)
		if err != nil {
			p := problem.Field{Field: "/sink", Message: err.Error()}
			if i > 0 {
				p.Field = fmt.Sprintf("/protocolsettings/failover/%d", i-1)
			}
			problems = append(problems, p)
			continue
		}
		if a.User == "" {
			a.User, a.Password = sub.Credential.Username, string(sub.Credential.Password)
		}
		out = append(out, a)
	}
	return out, problems
}

func parse(raw string, schemes Schemes, vhost bool) (Address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Address{}, fmt.Errorf("is not a URL") // the parser's error quotes it all, password included
	}
	port, ok := schemes[u.Scheme]
	if !ok {
		return Address{}, fmt.Errorf("the scheme %q is not one of %s", u.Scheme, strings.Join(slices.Sorted(maps.Keys(schemes)), ", "))
	}
	if u.Hostname() == "" {
		return Address{}, fmt.Errorf("has no host")
	}
	if u.RawQuery != "" || u.ForceQuery {
		return Address{}, fmt.Errorf("has a query, which brokers have no use for")
	}
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	if path != "" && !vhost {
		return Address{}, fmt.Errorf("has a path, which this protocol has no use for")
	}
	if strings.Contains(path, "/") {
		return Address{}, fmt.Errorf("the path is to be one virtual host; a / in its name is written %%2F")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	a := Address{URL: u, HostPort: net.JoinHostPort(u.Hostname(), port)}
	if a.VHost, err = url.PathUnescape(path); err != nil {
		return Address{}, fmt.Errorf("the path is not percent-encoded")
	}
	if u.User != nil {
		a.User = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	return a, nil
}

// CheckHeaders names the headers of a subscription that the delivery sets
// itself: [Reserved] ones and those that own says.
func CheckHeaders(headers map[string]string, own func(lower string) bool) []problem.Field {
	var problems []problem.Field
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if len(name) <= 255 && (Reserved(name) || own != nil && own(strings.ToLower(name))) {
			problems = append(problems, problem.Field{
				Field: "/protocolsettings/headers/" + problem.Escape(name), Message: "is set by the delivery itself",
			})
		}
	}
	return problems
}

// Failover is the setting of protocols that have several brokers.
func Failover() delivery.Setting {
	return delivery.Setting{Name: "failover", Flag: "failover", Placeholder: "URL", Help: "Further brokers, tried in order. May be repeated."}
}

// VHost is the setting of protocols that have virtual hosts. maxBytes bounds
// its name.
func VHost(maxBytes int) delivery.Setting {
	return delivery.Setting{Name: "vhost", Flag: "vhost", Placeholder: "NAME", Help: "Virtual host, instead of the one in the sink's path.", MaxBytes: maxBytes}
}
