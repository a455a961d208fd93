package clairconfig

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A kind is one of Clair's ways to deliver, in the order in which it takes the
// first that is configured.
type kind string

const (
	webhook kind = "webhook"
	amqp    kind = "amqp"
	stomp   kind = "stomp"
)

// subscription is a tocsin subscribe in the making.
type subscription struct {
	sinks  []string
	flags  []string // in words
	env    []string // variables that hold secrets
	secure bool     // TLS is configured
}

func (t *translation) sink(k kind) *subscription {
	if t.sinks[k] == nil {
		t.sinks[k] = &subscription{}
	}
	return t.sinks[k]
}

func (s *subscription) add(name string, v any) {
	s.flags = append(s.flags, "--"+name, quote(fmt.Sprint(v)))
}

func sink(k kind) func(*translation, any) error {
	return func(t *translation, v any) error {
		t.sink(k).sinks = []string{fmt.Sprint(v)}
		return nil
	}
}

func flag(k kind, name string) func(*translation, any) error {
	return func(t *translation, v any) error {
		if s := fmt.Sprint(v); s != "" && s != "0" {
			t.sink(k).add(name, s)
		}
		if name == "ca-file" {
			t.sink(k).secure = true
		}
		return nil
	}
}

func toggle(k kind, name string) func(*translation, any) error {
	return func(t *translation, v any) error {
		if v == true {
			t.sink(k).flags = append(t.sink(k).flags, "--"+name)
		}
		return nil
	}
}

func password(k kind) func(*translation, any) error {
	return func(t *translation, _ any) error {
		t.sink(k).env = append(t.sink(k).env, "TOCSIN_SINK_PASSWORD")
		return nil
	}
}

const notificationPath = "/notifier/api/v1/notification"

func webhookCallback(t *translation, v any) error {
	callback := fmt.Sprint(v)
	if base, ok := strings.CutSuffix(strings.TrimSuffix(callback, "/"), notificationPath); ok {
		t.set("public_url", base)
	} else if callback != "" {
		t.sink(webhook).add("callback", callback)
	}
	return nil
}

func webhookHeaders(t *translation, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("is not a mapping of headers")
	}
	s := t.sink(webhook)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		values, ok := m[name].([]any)
		if !ok {
			values = []any{m[name]}
		}
		for _, value := range values {
			text := fmt.Sprint(value)
			switch lower := strings.ToLower(name); {
			case lower == "authorization" && strings.HasPrefix(text, "Bearer "):
				s.env = append(s.env, "TOCSIN_SINK_TOKEN")
			case lower == "authorization" || lower == "proxy-authorization" || lower == "cookie":
				t.note("notifier.webhook.headers.*", "%s is a credential: give it to the subscription as sinkcredential", name)
			default:
				s.add("header", name+"="+text)
			}
		}
		if len(values) > 1 {
			t.note("notifier.webhook.headers.*", "%s has several values; a subscription sends the last", name)
		}
	}
	return nil
}

func amqpURIs(t *translation, v any) error {
	s := t.sink(amqp)
	for _, uri := range list(v) {
		u, err := url.Parse(uri)
		if err != nil || u.Host == "" {
			return fmt.Errorf("one is not a URL") // it may hold a password
		}
		if u.User != nil && len(s.sinks) == 0 {
			s.add("user", u.User.Username())
			s.env = append(s.env, "TOCSIN_SINK_PASSWORD")
		}
		u.User = nil
		s.sinks = append(s.sinks, u.String())
	}
	return nil
}

func stompURIs(t *translation, v any) error {
	for _, uri := range list(v) {
		t.sink(stomp).sinks = append(t.sink(stomp).sinks, "stomp://"+uri)
	}
	return nil
}

func list(v any) []string {
	all, ok := v.([]any)
	if !ok {
		return []string{fmt.Sprint(v)}
	}
	var out []string
	for _, s := range all {
		out = append(out, fmt.Sprint(s))
	}
	return out
}

// subscriptions writes the command of the delivery that Clair would use.
func (t *translation) subscriptions() {
	used := false
	for _, k := range []kind{webhook, amqp, stomp} {
		s := t.sinks[k]
		if s == nil {
			continue
		}
		if len(s.sinks) == 0 {
			t.note("notifier."+string(k), "has no target")
			continue
		}
		if used {
			t.note("notifier."+string(k), "Clair delivers in one way, and this is not the first; Tocsin can deliver in all: %s", t.command(k, s))
			continue
		}
		used = true
		t.Subscribe = append(t.Subscribe, t.command(k, s))
		if u, err := url.Parse(s.sinks[0]); err == nil && private(u.Host) {
			t.note("", "%s is not on the public internet: its network has to be in delivery.allow_networks", u.Host)
		}
	}
}

func (t *translation) command(k kind, s *subscription) string {
	var words []string
	for _, e := range slices.Compact(s.env) {
		words = append(words, e+"=…")
	}
	sinks := slices.Clone(s.sinks)
	if s.secure && k == stomp {
		for i := range sinks {
			sinks[i] = "stomps://" + strings.TrimPrefix(sinks[i], "stomp://")
		}
	}
	words = append(words, "tocsin", "subscribe", quote(sinks[0]), "--mode", "clair", "--name", "clair-"+string(k))
	for _, f := range sinks[1:] {
		words = append(words, "--failover", quote(f))
	}
	return strings.Join(append(words, s.flags...), " ")
}

var plain = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

// quote makes one word of a shell.
func quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
