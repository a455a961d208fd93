package notifier

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Bounds on a subscription.
const (
	maxBody      = 256 << 10
	maxName      = 200
	maxKey       = 200
	maxSink      = 2048
	maxText      = 1024 // one setting
	maxPEM       = 64 << 10
	maxSecret    = 4096
	maxLabels    = 64
	maxHeaders   = 32
	maxFailover  = 16
	maxSchedule  = 32
	maxTimeout   = 5 * time.Minute
	maxDelay     = 7 * 24 * time.Hour
	maxParallel  = 1000
	maxRate      = 100_000
	maxBatchSize = 1000
)

// DecodeSubscription reads a subscription object, refusing what it does not
// know, as an *Error.
func DecodeSubscription(body []byte) (schemas.Subscription, error) {
	var s schemas.Subscription
	if len(body) > maxBody {
		return s, &Error{Fields: []FieldError{{Detail: fmt.Sprintf("the object has %d bytes, over the limit of %d", len(body), maxBody)}}}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&s)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("there is more than one JSON value")
		}
	}
	if err == nil {
		return s, nil
	}
	f := FieldError{Detail: "is not a subscription object: " + strings.TrimPrefix(err.Error(), "json: ")}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		f.Pointer = "/" + strings.ReplaceAll(t.Field, ".", "/")
		f.Detail = fmt.Sprintf("is a JSON %s, which it can't be", t.Value)
	} else if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		f.Detail = fmt.Sprintf("is not JSON: at byte %d: %s", syntax.Offset, syntax.Error())
	}
	return s, &Error{Fields: []FieldError{f}}
}

// checker collects what is wrong.
type checker struct{ fields []FieldError }

func (c *checker) refuse(pointer, hint, detail string, args ...any) {
	c.fields = append(c.fields, FieldError{Pointer: pointer, Detail: fmt.Sprintf(detail, args...), Hint: hint})
}

// compile validates and compiles a subscription, with its defaults filled in.
// It is nil if there is anything wrong.
func (l *Log) compile(spec schemas.Subscription) (*subscriber, []FieldError) {
	c := &checker{}
	id, _ := uuid.Parse(spec.ID)
	c.types(spec.Types)
	_, problems := l.compiler.Compile(spec.Filters)
	c.filters(problems)
	if !slices.Contains([]string{"", schemas.GranularityManifest, schemas.GranularityUpdate}, spec.Config.Granularity) {
		c.refuse("/config/granularity", "manifest or update", "is %q", clip(spec.Config.Granularity))
	}
	if len(c.fields) > 0 {
		return nil, c.fields
	}
	s, _ := l.subscriber(id, spec)
	if s == nil { // its filters do compile, so it is the source
		c.refuse("/source", "", "is no source of events")
	}
	return s, c.fields
}

func (c *checker) filters(problems []filter.Problem) {
	for _, p := range problems {
		c.refuse("/filters"+p.Pointer, p.Hint, "%s", p.Detail)
	}
}

// validate says everything that is wrong with a subscription that is to be
// stored.
func (l *Log) validate(spec *schemas.Subscription) []FieldError {
	c := &checker{}
	c.text("/name", spec.Name, maxName)
	c.text("/key", spec.Key, maxKey)
	c.text("/source", spec.Source, maxText)
	if len(spec.Labels) > maxLabels {
		c.refuse("/labels", "", "has %d labels, over the limit of %d", len(spec.Labels), maxLabels)
	}
	for k, v := range spec.Labels {
		c.text("/labels/"+escape(k), k, maxText)
		c.text("/labels/"+escape(k), v, maxText)
	}
	if _, fields := l.compile(*spec); fields != nil {
		c.fields = append(c.fields, fields...)
	}
	c.sink("/sink", spec.Sink, spec)
	c.settings(spec)
	c.credential(spec)
	c.config(spec)
	return c.fields
}

func (c *checker) types(types []string) {
	if len(types) > 64 {
		c.refuse("/types", "", "has %d types, over the limit of 64", len(types))
		return
	}
	for i, t := range types {
		if !slices.Contains(schemas.Types, t) {
			c.refuse(fmt.Sprintf("/types/%d", i), "types: "+strings.Join(schemas.Types, ", "), "there is no event type %q", clip(t))
		}
	}
}

// text refuses what is too long for a setting or could not be printed.
func (c *checker) text(pointer, s string, most int) bool {
	switch {
	case len(s) > most:
		c.refuse(pointer, "", "has %d bytes, over the limit of %d", len(s), most)
	case !utf8.ValidString(s):
		c.refuse(pointer, "", "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		c.refuse(pointer, "", "has control characters")
	default:
		return true
	}
	return false
}

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
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			c.refuse(pointer, "1 to 65535", "the port is %q", clip(p))
		}
	} else if strings.HasSuffix(u.Host, ":") {
		c.refuse(pointer, "", "the port is empty")
	}
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

func (c *checker) config(spec *schemas.Subscription) {
	k := &spec.Config
	c.duration("/config/timeout", k.Timeout, maxTimeout)
	c.count("/config/concurrency", k.Concurrency, maxParallel)
	c.count("/config/batch_size", k.BatchSize, maxBatchSize)
	if k.Ordered && k.Concurrency > 1 {
		c.refuse("/config/concurrency", "leave it out", "is %d, but ordered delivery is one at a time", k.Concurrency)
	}
	if r := k.Retry; r != nil {
		if len(r.Schedule) > maxSchedule {
			c.refuse("/config/retry/schedule", "", "has %d steps, over the limit of %d", len(r.Schedule), maxSchedule)
		}
		for i, d := range r.Schedule {
			if at := fmt.Sprintf("/config/retry/schedule/%d", i); d == 0 {
				c.refuse(at, "such as 5s", "is zero")
			} else {
				c.duration(at, d, maxDelay)
			}
		}
		if r.Jitter != nil {
			c.share("/config/retry/jitter", *r.Jitter)
		}
	}
	if r := k.Rate; r != nil {
		if !(r.PerSecond > 0 && r.PerSecond <= maxRate) {
			c.refuse("/config/rate/per_second", fmt.Sprintf("over 0, up to %d", maxRate), "is %g", r.PerSecond)
		}
		c.count("/config/rate/burst", r.Burst, maxRate)
	}
	if b := k.Breaker; b != nil {
		c.count("/config/breaker/consecutive_failures", b.ConsecutiveFailures, 100_000)
		c.count("/config/breaker/min_attempts", b.MinAttempts, 100_000)
		c.share("/config/breaker/failure_ratio", b.FailureRatio)
		c.duration("/config/breaker/window", b.Window, maxDelay)
		c.duration("/config/breaker/open_for", b.OpenFor, maxDelay)
		c.duration("/config/breaker/max_open_for", b.MaxOpenFor, maxDelay)
		if b.MaxOpenFor > 0 && b.MaxOpenFor < b.OpenFor {
			c.refuse("/config/breaker/max_open_for", "", "is shorter than open_for")
		}
		// Negative means never.
		c.duration("/config/breaker/disable_after", max(b.DisableAfter, 0), 365*24*time.Hour)
	}
	modes := []string{"", schemas.ModeStructured, schemas.ModeBinary, schemas.ModeBatched, schemas.ModeClair}
	switch {
	case !slices.Contains(modes, k.Mode):
		c.refuse("/config/mode", "structured, binary, batched or clair", "is %q", clip(k.Mode))
	case (k.Mode == schemas.ModeBatched || k.Mode == schemas.ModeClair) && spec.Protocol != schemas.ProtocolHTTP:
		c.refuse("/config/mode", "structured or binary", "%s is for webhooks alone", k.Mode)
	case k.Mode == schemas.ModeClair && k.Granularity != schemas.GranularityUpdate:
		c.refuse("/config/granularity", "update", "mode clair speaks of whole updates")
	case k.Mode != schemas.ModeBatched && k.BatchSize != 0:
		c.refuse("/config/batch_size", "batched", "is only for mode batched")
	}
	if k.Handshake && spec.Protocol != schemas.ProtocolHTTP {
		c.refuse("/config/handshake", "", "is for webhooks alone")
	}
}

func (c *checker) duration(at string, d schemas.Duration, most time.Duration) {
	if d < 0 || time.Duration(d) > most {
		c.refuse(at, "0s to "+most.String(), "is %s", time.Duration(d))
	}
}

func (c *checker) count(at string, n, most int) {
	if n < 0 || n > most {
		c.refuse(at, fmt.Sprintf("0 to %d", most), "is %d", n)
	}
}

func (c *checker) share(at string, f float64) {
	if !(f >= 0 && f <= 1) {
		c.refuse(at, "0 to 1", "is %g", f)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func escape(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(clip(s)) }

// clip keeps what is repeated to a client short.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
