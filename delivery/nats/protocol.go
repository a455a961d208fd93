package nats

import (
	"fmt"
	"strings"
	"unicode"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

var schemes = broker.Schemes{"nats": "4222", "tls": "4222", "nats+tls": "4222"}

// Protocol is NATS, with JetStream and without.
func Protocol() delivery.Protocol {
	return delivery.Protocol{
		Name: schemas.ProtocolNATS, Schemes: []string{"nats", "nats+tls", "tls"}, Sink: "nats://host",
		Delivered:   "the stream acknowledged it (`protocolsettings.jetstream`), or the server took it",
		Modes:       []delivery.ContentMode{delivery.Structured, delivery.Binary},
		Credentials: []string{schemas.CredentialPlain, schemas.CredentialAccessToken, schemas.CredentialCertificate},
		Settings: []delivery.Setting{
			{Name: "subject", Flag: "subject", Placeholder: "TEMPLATE", Help: "NATS subject, such as alerts.{severity}.", Template: true, MaxBytes: broker.MaxTemplate},
			{Name: "jetstream", Flag: "jetstream", Help: "Wait until a stream has stored the message."},
			broker.Failover(),
		},
		Check: func(sub delivery.Subscription) []problem.Field {
			_, _, problems := read(sub)
			return problems
		},
		New: func(e delivery.Environment) delivery.Opener { return Opener{Dial: e.Dial, RootCAs: e.RootCAs} },
	}
}

// read takes from a subscription what a target needs, or says all that is
// wrong with it.
func read(sub delivery.Subscription) ([]broker.Address, broker.Template, []problem.Field) {
	addresses, problems := broker.Addresses(sub, schemes, false)
	subject, wrong := broker.ParseTemplate("subject", sub.Settings.Subject)
	problems = append(problems, wrong...)
	if len(wrong) == 0 {
		if err := checkSubject(subject.Sample()); err != nil {
			problems = append(problems, problem.Field{Field: "/protocolsettings/subject", Message: err.Error(), Hint: "such as alerts.{severity}"})
		}
	}
	problems = append(problems, broker.CheckHeaders(sub.Settings.Headers, func(lower string) bool { return lower == "nats-msg-id" })...)
	if len(problems) > 0 {
		return nil, broker.Template{}, problems
	}
	return addresses, subject, nil
}

// checkSubject says why nothing can be published under a subject.
func checkSubject(subject string) error {
	switch {
	case subject == "":
		return fmt.Errorf("is missing")
	case strings.ContainsFunc(subject, unicode.IsSpace):
		return fmt.Errorf("has a space")
	case strings.HasPrefix(subject, "$"), strings.HasPrefix(subject, "_INBOX."):
		return fmt.Errorf("is one of the server's own")
	}
	for token := range strings.SplitSeq(subject, ".") {
		switch token {
		case "":
			return fmt.Errorf("has an empty part between dots")
		case "*", ">":
			return fmt.Errorf("has the wildcard %s, under which nothing can be published", token)
		}
	}
	return nil
}
