package protocols

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// Bounds on where a subscription goes and with which settings.
const (
	maxSink     = 2048
	maxText     = 1024 // one setting
	maxHeader   = 200  // the name of one
	maxHeaders  = 32
	maxFailover = 16
	maxPEM      = 64 << 10
)

// Checker checks subscriptions. The zero value will do.
type Checker struct {
	// Reachable says why a sink, or a broker of failover, may never be called.
	// It gets a URL with a host and resolves no names. A [problem.Field]
	// that it returns keeps its hint. Nil checks nothing.
	Reachable func(rawURL string) error
	// Refuse says what else must not be, whatever the protocol makes of it, such
	// as a sink that is the server's own intake. Nil refuses nothing.
	Refuse func(spec schemas.Subscription) []problem.Field
}

// ProtocolOf is [Of].
func (Checker) ProtocolOf(sink string) string { return Of(sink) }

// Check says everything that keeps a subscription from ever being delivered to:
// its sink, protocol, settings, credential and mode. Its Protocol must be
// filled in, its credential in clear.
func (c Checker) Check(spec schemas.Subscription) []problem.Field {
	k := &check{reachable: c.Reachable, spec: spec}
	all := All()
	i := slices.IndexFunc(all, func(p delivery.Protocol) bool { return p.Name == spec.Protocol })
	if i < 0 {
		k.noProtocol()
		return k.problems
	}
	k.protocol = all[i]
	k.sink("/sink", spec.Sink)
	k.failover()
	k.headers()
	k.settings()
	k.credential()
	k.mode()
	k.own()
	if c.Refuse != nil && len(k.problems) == 0 {
		k.problems = c.Refuse(spec)
	}
	return k.problems
}

// check collects what is wrong with one subscription.
type check struct {
	reachable func(rawURL string) error
	spec      schemas.Subscription
	protocol  delivery.Protocol
	problems  []problem.Field
}

func (k *check) refuse(pointer, hint, detail string, args ...any) {
	k.problems = append(k.problems, problem.Field{Field: pointer, Message: fmt.Sprintf(detail, args...), Hint: hint})
}

func (k *check) noProtocol() {
	names := enumerate(Names())
	if k.spec.Protocol != "" {
		k.refuse("/protocol", names, "is %q", clip(k.spec.Protocol))
		return
	}
	scheme, _, ok := strings.Cut(k.spec.Sink, "://")
	switch {
	case k.spec.Sink == "":
		k.refuse("/sink", "such as https://example.com/hook", "is missing")
	case !ok:
		k.refuse("/sink", "such as https://example.com/hook", "is not a URL")
	default:
		k.refuse("/protocol", names, "is missing, and the scheme %q does not say which it is", clip(scheme))
	}
}

func (k *check) sink(pointer, sink string) {
	if sink == "" {
		k.refuse(pointer, "such as "+k.protocol.Sink, "is missing")
		return
	}
	if !k.text(pointer, sink, maxSink) {
		return
	}
	u, err := url.Parse(sink)
	if err != nil {
		// url's error repeats the URL, password and all.
		k.refuse(pointer, "", "is not a URL")
		return
	}
	if !slices.Contains(k.protocol.Schemes, u.Scheme) {
		k.refuse(pointer, "schemes: "+strings.Join(k.protocol.Schemes, ", "), "the scheme %q is not one of %s", clip(u.Scheme), k.protocol.Name)
	}
	if u.User != nil {
		k.refuse(pointer, "put user and password into sinkcredential, where they are kept sealed", "has credentials in it")
	}
	if u.Fragment != "" {
		k.refuse(pointer, "", "has a fragment")
	}
	if u.Hostname() == "" {
		k.refuse(pointer, "", "has no host")
	} else if strings.ContainsAny(u.Hostname(), " \t\"<>\\^`{|}") {
		k.refuse(pointer, "", "the host has characters that no host has")
	} else {
		k.reach(pointer, sink)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			k.refuse(pointer, "1 to 65535", "the port is %q", clip(p))
		}
	} else if strings.HasSuffix(u.Host, ":") {
		k.refuse(pointer, "", "the port is empty")
	}
}

// reach refuses a sink that the delivery would never call.
func (k *check) reach(pointer, sink string) {
	if k.reachable == nil {
		return
	}
	err := k.reachable(sink)
	if err == nil {
		return
	}
	if f, ok := errors.AsType[problem.Field](err); ok {
		k.refuse(pointer, f.Hint, "%s", f.Message)
		return
	}
	k.refuse(pointer, "", "%s", err)
}

func (k *check) failover() {
	p := k.spec.ProtocolSettings
	if len(p.Failover) > maxFailover {
		k.refuse("/protocolsettings/failover", "", "has %d brokers, over the limit of %d", len(p.Failover), maxFailover)
		return
	}
	if !slices.ContainsFunc(k.protocol.Settings, func(s delivery.Setting) bool { return s.Name == "failover" }) {
		return // refused as a setting
	}
	for i, sink := range p.Failover {
		k.sink(fmt.Sprintf("/protocolsettings/failover/%d", i), sink)
	}
}

func (k *check) headers() {
	p := k.spec.ProtocolSettings
	if len(p.Headers) > maxHeaders {
		k.refuse("/protocolsettings/headers", "", "has %d headers, over the limit of %d", len(p.Headers), maxHeaders)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		at := "/protocolsettings/headers/" + problem.Escape(clip(name))
		switch lower := strings.ToLower(name); {
		case len(name) > maxHeader:
			k.refuse(at, "", "is a name of %d bytes, over the limit of %d", len(name), maxHeader)
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 126 || r <= ' ' || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r) }):
			k.refuse(at, "", "is not a header name (RFC 9110, section 5.1)")
		case lower == "authorization" || lower == "proxy-authorization" || lower == "cookie":
			k.refuse(at, "put it into sinkcredential, where it is kept sealed", "would keep a credential in clear")
		default:
			k.text(at, p.Headers[name], maxText)
		}
	}
}

// settings refuses settings of other protocols, and values that no setting may
// have.
func (k *check) settings() {
	given := settingsOf(k.spec.ProtocolSettings)
	for _, s := range Settings() {
		value, ok := given[s.Name]
		if !ok {
			continue
		}
		at := "/protocolsettings/" + s.Name
		text, isText := value.(string)
		switch {
		case s.Protocols != nil && !slices.Contains(s.Protocols, k.protocol.Name):
			k.refuse(at, "a setting of "+strings.Join(s.Protocols, ", "), "is no setting of %s", k.protocol.Name)
		case !isText:
		case s.Name == "ca":
			k.pem(at, text)
		case s.Values != nil && !slices.Contains(s.Values, text):
			k.refuse(at, enumerate(s.Values), "is %q", clip(text))
		case !k.text(at, text, limitOf(s.Setting)):
		case s.Template:
			k.template(at, text)
		}
	}
}

func limitOf(s delivery.Setting) int {
	if s.MaxBytes > 0 {
		return s.MaxBytes
	}
	return maxText
}

// settingsOf are the settings that are given, by their keys in JSON.
func settingsOf(p schemas.ProtocolSettings) map[string]any {
	text, err := json.Marshal(p)
	if err != nil {
		panic("protocols: settings do not marshal: " + err.Error()) // strings, switches and lists of them
	}
	var given map[string]any
	if err := json.Unmarshal(text, &given); err != nil {
		panic("protocols: settings do not unmarshal: " + err.Error())
	}
	return given
}

func (k *check) template(at, text string) {
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return
		}
		name, next, ok := strings.Cut(after, "}")
		if !ok || !slices.Contains(Placeholders(), name) {
			k.refuse(at, "placeholders: {"+strings.Join(Placeholders(), "}, {")+"}", "has a { that starts no placeholder")
			return
		}
		rest = next
	}
}

// pem refuses what is not a list of certificates.
func (k *check) pem(at, text string) {
	if len(text) > maxPEM {
		k.refuse(at, "", "has %d bytes, over the limit of %d", len(text), maxPEM)
	} else if strings.ContainsRune(text, 0) || !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		k.refuse(at, "one or more -----BEGIN CERTIFICATE----- blocks", "has no certificate in PEM")
	}
}

func (k *check) credential() {
	c := k.spec.SinkCredential
	known := []string{schemas.CredentialPlain, schemas.CredentialAccessToken, schemas.CredentialCertificate}
	if c == nil || !slices.Contains(known, c.CredentialType) || slices.Contains(k.protocol.Credentials, c.CredentialType) {
		return
	}
	hint := enumerate(k.protocol.Credentials)
	if c.CredentialType == schemas.CredentialAccessToken {
		hint += "; RabbitMQ's OAuth 2 plugin takes the token as the password of PLAIN"
	}
	k.refuse("/sinkcredential/credentialtype", hint, "%s is not a way to log in over %s", c.CredentialType, k.protocol.Name)
}

func (k *check) mode() {
	mode := delivery.ContentMode(k.spec.Config.Mode)
	var modes, anywhere []string
	for _, m := range k.protocol.Modes {
		modes = append(modes, string(m))
	}
	for _, p := range All() {
		for _, m := range p.Modes {
			anywhere = append(anywhere, string(m))
		}
	}
	switch {
	case mode == "" || slices.Contains(k.protocol.Modes, mode):
	case slices.Contains(anywhere, string(mode)):
		k.refuse("/config/mode", enumerate(modes), "%s is no mode of %s", mode, k.protocol.Name)
	default:
		k.refuse("/config/mode", enumerate(modes), "is %q", clip(string(mode)))
	}
	if k.spec.Config.Handshake && !k.protocol.Handshake {
		k.refuse("/config/handshake", "", "is for webhooks alone")
	}
}

// own adds what the protocol's own check finds, for fields that have no problem
// yet.
func (k *check) own() {
	spec := k.spec
	spec.ID = uuid.Nil.String()
	sub, err := delivery.FromTarget(schemas.Target{Subscription: spec, Credential: spec.SinkCredential})
	if err != nil {
		k.refuse("", "", "%s", err)
		return
	}
	named := map[string]bool{}
	for _, p := range k.problems {
		named[p.Field] = true
	}
	for _, p := range k.protocol.Check(sub) {
		if !named[p.Field] {
			k.problems = append(k.problems, p)
		}
	}
}

// text refuses what is too long for a setting or could not be printed.
func (k *check) text(pointer, s string, most int) bool {
	switch {
	case len(s) > most:
		k.refuse(pointer, "", "has %d bytes, over the limit of %d", len(s), most)
	case !utf8.ValidString(s):
		k.refuse(pointer, "", "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		k.refuse(pointer, "", "has control characters")
	default:
		return true
	}
	return false
}

// clip keeps what is repeated to a client short.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// enumerate is "a, b or c".
func enumerate(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}
