package protocols

import (
	"slices"
	"strings"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/amqp"
	"tocsin.dev/tocsin/delivery/nats"
	"tocsin.dev/tocsin/delivery/stomp"
	"tocsin.dev/tocsin/delivery/webhook"
)

// All are the protocols. This is the one place that lists them.
func All() []delivery.Protocol {
	return []delivery.Protocol{webhook.Protocol(), amqp.Protocol(), stomp.Protocol(), nats.Protocol()}
}

// Names are the names of all.
func Names() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
	}
	return names
}

// Openers are the openers of all in an environment, by protocol.
func Openers(e delivery.Environment) map[string]delivery.Opener {
	openers := map[string]delivery.Opener{}
	for _, p := range All() {
		openers[p.Name] = p.New(e)
	}
	return openers
}

// Of is the name of the protocol that goes with a sink's scheme, "" if none
// does.
func Of(sink string) string {
	scheme, _, _ := strings.Cut(sink, "://")
	for _, p := range All() {
		if slices.Contains(p.Schemes, strings.ToLower(scheme)) {
			return p.Name
		}
	}
	return ""
}

// Settings are the settings of all protocols, each once, with the names of the
// protocols that have it; nil for all of them.
func Settings() []NamedSetting {
	var out []NamedSetting
	for _, p := range All() {
		for _, s := range p.Settings {
			i := slices.IndexFunc(out, func(n NamedSetting) bool { return n.Name == s.Name })
			if i < 0 {
				out, i = append(out, NamedSetting{Setting: s}), len(out)
			}
			out[i].Protocols = append(out[i].Protocols, p.Name)
		}
	}
	for _, s := range delivery.SharedSettings() {
		out = append(out, NamedSetting{Setting: s})
	}
	return out
}

// NamedSetting is a setting with the protocols that have it.
type NamedSetting struct {
	delivery.Setting
	Protocols []string
}

// Placeholders are the attributes that templates may hold.
func Placeholders() []string { return []string{"type", "updater", "severity", "subject", "image"} }
