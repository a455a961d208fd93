package webhook

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

var modes = []delivery.ContentMode{delivery.Structured, delivery.Binary, delivery.Batched, delivery.Clair}

// Protocol is CloudEvents over HTTP.
func Protocol() delivery.Protocol {
	return delivery.Protocol{
		Name: schemas.ProtocolHTTP, Schemes: []string{"https", "http"}, Sink: "https://host/path",
		Delivered:   "it was answered with any 2xx; see [webhooks.md](webhooks.md)",
		Modes:       modes,
		Handshake:   true,
		Credentials: []string{schemas.CredentialPlain, schemas.CredentialAccessToken, schemas.CredentialCertificate},
		Settings:    []delivery.Setting{delivery.ClairCallbackSetting()},
		Check: func(sub delivery.Subscription) []problem.Field {
			_, _, problems := read(sub, "")
			return problems
		},
		New: func(e delivery.Environment) delivery.Opener {
			return New(Options{Dial: e.Dial, Proxied: e.Proxied, RootCAs: e.RootCAs, UserAgent: e.UserAgent, Callback: e.ClairCallback, ClairToken: e.ClairToken})
		},
	}
}

// read takes from a subscription what a target needs: the URL and the headers
// of every request. Or it says all that is wrong with it.
func read(sub delivery.Subscription, agent string) (*url.URL, http.Header, []problem.Field) {
	var problems []problem.Field
	refuse := func(pointer, hint, detail string, args ...any) {
		problems = append(problems, problem.Field{Field: pointer, Message: fmt.Sprintf(detail, args...), Hint: hint})
	}
	u, err := url.Parse(sub.Sink)
	switch {
	case err != nil: // the parser's error repeats the URL, password and all
		refuse("/sink", "", "is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		refuse("/sink", "", "the scheme %q is not http or https", u.Scheme)
	case u.Hostname() == "":
		refuse("/sink", "", "has no host")
	case u.User != nil:
		refuse("/sink", "use sinkcredential", "has credentials in it")
	default:
		u.Fragment, u.RawFragment = "", ""
		u.RawQuery = encodeQuery(u.RawQuery)
	}
	h := http.Header{"User-Agent": {agent}}
	for _, name := range slices.Sorted(maps.Keys(sub.Settings.Headers)) {
		value, at := sub.Settings.Headers[name], "/protocolsettings/headers/"+problem.Escape(name)
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			refuse(at, "", "is not a header name (RFC 9110, section 5.1)")
		case !httpguts.ValidHeaderFieldValue(value):
			refuse(at, "", "has a value with characters that a header can't hold")
		case reserved(canonical):
			refuse(at, "", "is set by the delivery itself")
		default:
			h[canonical] = []string{value}
		}
	}
	switch c := sub.Credential; {
	case c.Token != "":
		if !httpguts.ValidHeaderFieldValue(string(c.Token)) {
			refuse("/sinkcredential/accesstoken", "", "has characters that a header can't hold")
		}
		h.Set("Authorization", "Bearer "+string(c.Token))
	case c.Username != "" || c.Password != "":
		if strings.Contains(c.Username, ":") {
			refuse("/sinkcredential/identifier", "", "has a colon, which HTTP basic authentication ends a user's name with (RFC 7617, section 2)")
		}
		r := http.Request{Header: h}
		r.SetBasicAuth(c.Username, string(c.Password))
	}
	if m := sub.Config.Mode; m != "" && !slices.Contains(modes, m) {
		refuse("/config/mode", "structured, binary, batched or clair", "is %q", m)
	}
	problems = append(problems, delivery.CheckClairCallback(sub)...)
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return u, h, nil
}

// reserved are headers, by canonical name, that the delivery or the transport
// sets.
func reserved(name string) bool {
	switch name {
	case "Host", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive",
		"Te", "Trailer", "Upgrade", "Expect", "Proxy-Authorization", "Proxy-Connection", "Traceparent":
		return true
	}
	return strings.HasPrefix(name, "Webhook-") || strings.HasPrefix(name, "Ce-")
}

// encodeQuery percent-encodes what must not stand in a query (RFC 3986, section
// 3.4), such as a space, which would end the request line, and leaves the rest
// as it is.
func encodeQuery(q string) string {
	var b strings.Builder
	for i := range len(q) {
		if c := q[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
