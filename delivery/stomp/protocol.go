package stomp

import (
	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

var schemes = broker.Schemes{"stomp": "61613", "stomps": "61614", "stomp+ssl": "61614"}

// Protocol is STOMP 1.2.
func Protocol() delivery.Protocol {
	return delivery.Protocol{
		Name: schemas.ProtocolSTOMP, Schemes: []string{"stomp+ssl", "stomps", "stomp"}, Sink: "stomp+ssl://host/vhost",
		Delivered:   "the broker's receipt came",
		Modes:       []delivery.ContentMode{delivery.Structured, delivery.Binary, delivery.Clair},
		Credentials: []string{schemas.CredentialPlain, schemas.CredentialCertificate},
		Settings: append([]delivery.Setting{
			{Name: "destination", Flag: "destination", Placeholder: "TEMPLATE", Help: "STOMP destination, such as /queue/tocsin.", Template: true, MaxBytes: broker.MaxTemplate},
			broker.VHost(255), broker.Failover(),
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
	addresses, problems := broker.Addresses(sub, schemes, true)
	destination, wrong := broker.ParseTemplate("destination", sub.Settings.Destination)
	problems = append(problems, wrong...)
	if sub.Settings.Destination == "" {
		problems = append(problems, problem.Field{Field: "/protocolsettings/destination", Message: "is missing", Hint: "such as /queue/tocsin"})
	}
	problems = append(problems, broker.CheckHeaders(sub.Settings.Headers, func(lower string) bool {
		return lower == "message-key" || lower == "persistent"
	})...)
	problems = append(problems, broker.CheckClair(sub)...)
	if len(problems) > 0 {
		return nil, broker.Template{}, problems
	}
	return addresses, destination, nil
}
