package subscription

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// schemes are the URL schemes of each protocol.
var schemes = map[string][]string{
	schemas.ProtocolHTTP:  {"http", "https"},
	schemas.ProtocolAMQP:  {"amqp", "amqps"},
	schemas.ProtocolSTOMP: {"stomp", "stomps", "stomp+ssl"},
	schemas.ProtocolNATS:  {"nats", "tls", "nats+tls"},
}

// ProtocolOf is the protocol that goes with a sink's scheme, "" if none does.
func ProtocolOf(sink string) string {
	scheme, _, _ := strings.Cut(sink, "://")
	for protocol, known := range schemes {
		if slices.Contains(known, strings.ToLower(scheme)) {
			return protocol
		}
	}
	return ""
}

func (c *checker) sink(pointer, sink string, spec *schemas.Subscription) {
	known, ok := schemes[spec.Protocol]
	if !ok && spec.Protocol != "" {
		if pointer == "/sink" {
			c.refuse("/protocol", "HTTP, AMQP, STOMP or NATS", "is %q", clip(spec.Protocol))
		}
		return
	}
	if sink == "" {
		c.refuse(pointer, "such as https://example.com/hook", "is missing")
		return
	}
	if !c.text(pointer, sink, maxSink) {
		return
	}
	u, err := url.Parse(sink)
	if err != nil {
		// url's error repeats the URL, password and all.
		c.refuse(pointer, "", "is not a URL")
		return
	}
	if !ok {
		c.refuse("/protocol", "HTTP, AMQP, STOMP or NATS", "is missing, and the scheme %q does not say which it is", clip(u.Scheme))
	} else if !slices.Contains(known, u.Scheme) {
		c.refuse(pointer, "schemes: "+strings.Join(known, ", "), "the scheme %q is not one of %s", clip(u.Scheme), spec.Protocol)
	}
	if u.User != nil {
		c.refuse(pointer, "put user and password into sinkcredential, where they are kept sealed", "has credentials in it")
	}
	if u.Fragment != "" {
		c.refuse(pointer, "", "has a fragment")
	}
	if u.Hostname() == "" {
		c.refuse(pointer, "", "has no host")
	} else if strings.ContainsAny(u.Hostname(), " \t\"<>\\^`{|}") {
		c.refuse(pointer, "", "the host has characters that no host has")
	} else {
		c.reachable(pointer, sink)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			c.refuse(pointer, "1 to 65535", "the port is %q", clip(p))
		}
	} else if strings.HasSuffix(u.Host, ":") {
		c.refuse(pointer, "", "the port is empty")
	}
}

// reachable refuses a sink that the delivery would never call.
func (c *checker) reachable(pointer, sink string) {
	if c.checkSink == nil {
		return
	}
	err := c.checkSink(sink)
	if err == nil {
		return
	}
	if f, ok := errors.AsType[problem.Field](err); ok {
		c.refuse(pointer, f.Hint, "%s", f.Message)
		return
	}
	c.refuse(pointer, "", "%s", err)
}

// refusedHeaders are set by the delivery itself or hold what must be sealed.
var refusedHeaders = []string{
	"authorization", "proxy-authorization", "cookie", "host", "content-length", "content-type", "content-encoding", "transfer-encoding",
	"connection", "te", "trailer", "upgrade", "expect",
}

func (c *checker) settings(spec *schemas.Subscription) {
	p := &spec.ProtocolSettings
	if len(p.Headers) > maxHeaders {
		c.refuse("/protocolsettings/headers", "", "has %d headers, over the limit of %d", len(p.Headers), maxHeaders)
	}
	for _, k := range sortedKeys(p.Headers) {
		at := "/protocolsettings/headers/" + escape(k)
		lower := strings.ToLower(k)
		switch {
		case k == "" || strings.ContainsFunc(k, func(r rune) bool { return r > 126 || r <= ' ' || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r) }):
			c.refuse(at, "", "is not a header name (RFC 9110, section 5.1)")
		case lower == "authorization" || lower == "proxy-authorization" || lower == "cookie":
			c.refuse(at, "put it into sinkcredential, where it is kept sealed", "would keep a credential in clear")
		case slices.Contains(refusedHeaders, lower) || strings.HasPrefix(lower, "webhook-") || strings.HasPrefix(lower, "ce-"):
			c.refuse(at, "", "is set by the delivery itself")
		default:
			c.text(at, p.Headers[k], maxText)
		}
	}
	if len(p.Failover) > maxFailover {
		c.refuse("/protocolsettings/failover", "", "has %d brokers, over the limit of %d", len(p.Failover), maxFailover)
	}
	for i, sink := range p.Failover {
		c.sink(fmt.Sprintf("/protocolsettings/failover/%d", i), sink, spec)
	}
	for _, f := range []struct {
		name, value string
		protocols   []string
		oneOf       []string
	}{
		{"exchange", p.Exchange, []string{schemas.ProtocolAMQP}, nil},
		{"exchangetype", p.ExchangeType, []string{schemas.ProtocolAMQP}, []string{"direct", "fanout", "topic", "headers"}},
		{"declare", p.Declare, []string{schemas.ProtocolAMQP}, []string{"passive", "active", "none"}},
		{"routingkey", p.RoutingKey, []string{schemas.ProtocolAMQP}, nil},
		{"vhost", p.VHost, []string{schemas.ProtocolAMQP, schemas.ProtocolSTOMP}, nil},
		{"destination", p.Destination, []string{schemas.ProtocolSTOMP}, nil},
		{"subject", p.Subject, []string{schemas.ProtocolNATS}, nil},
		{"failover", strings.Join(p.Failover, ""), []string{schemas.ProtocolAMQP, schemas.ProtocolSTOMP, schemas.ProtocolNATS}, nil},
		{"transient", boolText(p.Transient), []string{schemas.ProtocolAMQP}, nil},
		{"jetstream", boolText(p.JetStream), []string{schemas.ProtocolNATS}, nil},
	} {
		at := "/protocolsettings/" + f.name
		switch {
		case f.value == "":
		case !slices.Contains(f.protocols, spec.Protocol):
			c.refuse(at, "a setting of "+strings.Join(f.protocols, ", "), "is no setting of %s", clip(spec.Protocol))
		case f.oneOf != nil && !slices.Contains(f.oneOf, f.value):
			c.refuse(at, strings.Join(f.oneOf, ", "), "is %q", clip(f.value))
		case f.name != "failover":
			c.text(at, f.value, maxText)
			c.template(at, f.value)
		}
	}
	switch {
	case spec.Protocol == schemas.ProtocolSTOMP && p.Destination == "":
		c.refuse("/protocolsettings/destination", "such as /queue/tocsin", "is missing")
	case spec.Protocol == schemas.ProtocolAMQP && p.Declare == "active" && p.Exchange == "":
		c.refuse("/protocolsettings/exchange", "the default exchange can't be declared", "is missing")
	}
	c.pem("/protocolsettings/ca", p.CA)
	c.text("/protocolsettings/servername", p.ServerName, 253)
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// placeholders are what templates may hold.
var placeholders = []string{"type", "updater", "severity", "subject", "image"}

func (c *checker) template(at, text string) {
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return
		}
		name, next, ok := strings.Cut(after, "}")
		if !ok || !slices.Contains(placeholders, name) {
			c.refuse(at, "placeholders: {"+strings.Join(placeholders, "}, {")+"}", "has a { that starts no placeholder")
			return
		}
		rest = next
	}
}

// pem refuses what is not a list of certificates.
func (c *checker) pem(at, text string) {
	if text == "" {
		return
	}
	if len(text) > maxPEM {
		c.refuse(at, "", "has %d bytes, over the limit of %d", len(text), maxPEM)
	} else if strings.ContainsRune(text, 0) || !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		c.refuse(at, "one or more -----BEGIN CERTIFICATE----- blocks", "has no certificate in PEM")
	}
}

func (c *checker) credential(spec *schemas.Subscription) {
	if spec.Secret != "" {
		if spec.Protocol != schemas.ProtocolHTTP {
			c.refuse("/secret", "use sinkcredential to log in at a broker", "only webhooks are signed")
		} else if _, err := parseSigningSecret(spec.Secret); err != nil {
			c.refuse("/secret", signingHint, "%s", err)
		}
	}
	k := spec.SinkCredential
	if k == nil {
		return
	}
	for _, f := range []struct{ name, value string }{{"identifier", k.Identifier}, {"secret", k.Secret}, {"accesstoken", k.AccessToken}} {
		c.text("/sinkcredential/"+f.name, f.value, maxSecret)
	}
	missing := func(name, value string) {
		if value == "" {
			c.refuse("/sinkcredential/"+name, "", "is missing for credentialtype %s", k.CredentialType)
		}
	}
	surplus := func(name, value string) {
		if value != "" {
			c.refuse("/sinkcredential/"+name, "", "is not for credentialtype %s", k.CredentialType)
		}
	}
	switch k.CredentialType {
	case schemas.CredentialPlain:
		missing("identifier", k.Identifier)
		missing("secret", k.Secret)
		surplus("accesstoken", k.AccessToken)
	case schemas.CredentialAccessToken:
		missing("accesstoken", k.AccessToken)
		surplus("identifier", k.Identifier)
		surplus("secret", k.Secret)
		if strings.ContainsAny(k.AccessToken, " ,;") {
			c.refuse("/sinkcredential/accesstoken", "give the token alone, without Bearer", "is not a bearer token (RFC 6750, section 2.1)")
		}
	case schemas.CredentialCertificate:
		missing("certificate", k.Certificate)
		surplus("identifier", k.Identifier)
		surplus("secret", k.Secret)
		surplus("accesstoken", k.AccessToken)
	default:
		c.refuse("/sinkcredential/credentialtype", "PLAIN, ACCESSTOKEN or CERTIFICATE", "is %q", clip(k.CredentialType))
	}
	if k.Certificate == "" && k.Key == "" {
		return
	}
	if len(k.Certificate) > maxPEM || len(k.Key) > maxPEM {
		c.refuse("/sinkcredential/certificate", "", "certificate or key is over the limit of %d bytes", maxPEM)
	} else if strings.ContainsRune(k.Certificate+k.Key, 0) {
		c.refuse("/sinkcredential/certificate", "", "certificate or key has a NUL character")
	} else if _, err := tls.X509KeyPair([]byte(k.Certificate), []byte(k.Key)); err != nil {
		c.refuse("/sinkcredential/certificate", "certificate and key are both needed, in PEM", "certificate and key are not a pair")
	}
}
