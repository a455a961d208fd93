package amqp

import (
	"fmt"
	"slices"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// maxShort is the longest name in AMQP 0-9-1, in bytes (a "short string").
const maxShort = 255

var (
	schemes       = broker.Schemes{"amqp": "5672", "amqps": "5671"}
	exchangeTypes = []string{"direct", "fanout", "topic", "headers"}
)

// Protocol is AMQP 0-9-1.
func Protocol() delivery.Protocol {
	return delivery.Protocol{
		Name: schemas.ProtocolAMQP, Schemes: []string{"amqps", "amqp"}, Sink: "amqps://host/vhost",
		Delivered:   "the broker confirmed it and did not return it (0-9-1, persistent, mandatory)",
		Modes:       []delivery.ContentMode{delivery.Structured, delivery.Binary, delivery.Clair},
		Credentials: []string{schemas.CredentialPlain, schemas.CredentialCertificate},
		Settings: append([]delivery.Setting{
			{Name: "exchange", Flag: "exchange", Placeholder: "NAME", Help: "AMQP exchange; without one the routing key names a queue.", MaxBytes: maxShort},
			{Name: "exchangetype", Flag: "exchange-type", Placeholder: "TYPE", Help: "Type of the exchange that declare=active makes.", Values: exchangeTypes},
			{Name: "declare", Flag: "declare", Placeholder: "HOW", Help: "passive: the exchange has to be there; active: it is made, durable; none: not looked at.", Values: []string{"passive", "active", "none"}},
			{Name: "routingkey", Flag: "routing-key", Placeholder: "TEMPLATE", Help: "AMQP routing key.", Template: true, MaxBytes: maxShort},
			{Name: "transient", Flag: "transient", Help: "Messages need not survive a restart of the broker."},
			broker.VHost(maxShort), broker.Failover(),
		}, broker.ClairSettings()...),
		Check: func(sub delivery.Subscription) []problem.Field {
			_, _, problems := read(sub)
			return problems
		},
		New: func(e delivery.Environment) delivery.Opener {
			return Opener{Dial: e.Dial, RootCAs: e.RootCAs, Clair: broker.Clair{Callback: e.ClairCallback, Read: e.ClairNotification}}
		},
	}
}

// read takes from a subscription what a target needs, or says all that is
// wrong with it.
func read(sub delivery.Subscription) ([]broker.Address, broker.Template, []problem.Field) {
	s := sub.Settings
	addresses, problems := broker.Addresses(sub, schemes, true)
	refuse := func(setting, hint, detail string, args ...any) {
		problems = append(problems, problem.Field{Field: "/protocolsettings/" + setting, Message: fmt.Sprintf(detail, args...), Hint: hint})
	}
	key, wrong := broker.ParseTemplate("routingkey", s.RoutingKey)
	problems = append(problems, wrong...)
	if len(key.Sample()) > maxShort {
		refuse("routingkey", "", "has more than the %d bytes that AMQP allows", maxShort)
	}
	for _, name := range []struct{ setting, value string }{{"exchange", s.Exchange}, {"vhost", s.VHost}} {
		if len(name.value) > maxShort {
			refuse(name.setting, "", "has %d bytes, over AMQP's limit of %d", len(name.value), maxShort)
		}
	}
	switch s.Declare {
	case "", "passive", "none":
	case "active":
		if s.Exchange == "" {
			refuse("exchange", "the default exchange can't be declared", "is missing")
		}
		if !slices.Contains(exchangeTypes, s.ExchangeType) {
			refuse("exchangetype", "direct, fanout, topic or headers", "is %q, but declare=active needs one", s.ExchangeType)
		}
	default:
		refuse("declare", "passive, active or none", "is %q", s.Declare)
	}
	if s.Exchange == "" && s.RoutingKey == "" {
		refuse("exchange", "give an exchange, or a routingkey that names a queue", "is missing, and so is routingkey")
	}
	problems = append(problems, broker.CheckHeaders(s.Headers, nil)...)
	problems = append(problems, broker.CheckClair(sub)...)
	for name := range s.Headers {
		if len(name) > maxShort {
			refuse("headers", "", "has a name of %d bytes, over AMQP's limit of %d", len(name), maxShort)
		}
	}
	if len(problems) > 0 {
		return nil, broker.Template{}, problems
	}
	return addresses, key, nil
}
