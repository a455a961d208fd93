package delivery

import (
	"crypto/x509"
	"errors"
	"net/http"

	"tocsin.dev/tocsin/internal/problem"
)

// Protocol is one way to reach a sink. It is declared in the package that
// speaks it and listed in package delivery/protocols; validation, the flags of
// the command line and the documentation are made from it.
type Protocol struct {
	// Name is the protocol of a subscription, in capitals.
	Name string
	// Schemes begin the URLs of its sinks, the recommended one first.
	Schemes []string
	// Sink is an example of a sink.
	Sink string
	// Delivered ends the sentence "An event counts as delivered when …".
	Delivered string
	// Modes are the content modes it can send in.
	Modes []ContentMode
	// Handshake says that it can ask a sink's consent first.
	Handshake bool
	// Credentials are the types of sinkcredential it can log in with. A client
	// certificate is possible beside each.
	Credentials []string
	// Settings are the protocolsettings it has beside [SharedSettings].
	Settings []Setting
	// Check returns everything that would keep a subscription's target from ever
	// working, as far as can be found without a connection. [Opener.Open] refuses the same,
	// so that what Check accepts can be opened. It need not repeat what follows
	// from the fields above.
	Check func(Subscription) []problem.Field
	// New makes the opener of its targets; one serves all subscriptions.
	New func(Environment) Opener
}

// Environment is what openers get from the process they run in.
type Environment struct {
	// Dial opens every connection; it refuses addresses that must not be
	// called. It is required.
	Dial DialFunc
	// Proxied has a transport for HTTP whose connections Dial opens use the proxy
	// that there is, under the same rules; nil if there is none. Dial goes through
	// it by itself.
	Proxied func(*http.Transport)
	// RootCAs are the authorities to trust where a subscription names none; nil
	// means the system's.
	RootCAs *x509.CertPool
	// UserAgent names the program to the far side.
	UserAgent string
	// ClairCallback is the base URL of Clair's notification API, which content
	// mode clair refers receivers to; it ends with a slash.
	ClairCallback string
	// ClairNotification reads the notifications that content mode clair sends
	// directly; nil if this process can't.
	ClairNotification ClairNotification
	// ClairToken signs the bearer token of content mode clair, as Clair's notifier
	// does with its pre-shared key; nil if there is no key.
	ClairToken func() (string, error)
}

// Setting is one key of protocolsettings.
type Setting struct {
	// Name is the key; it is a field of [schemas.ProtocolSettings].
	Name string
	// Flag is the flag of `tocsin subscribe` that sets it; "" if none does.
	Flag string
	// Help is one sentence about it.
	Help string
	// Placeholder stands for the value in help texts; "" for a switch.
	Placeholder string
	// Values are all that are possible; nil if any text is.
	Values []string
	// Template says that {type}, {updater}, {severity}, {subject} and {image}
	// are filled in.
	Template bool
	// MaxBytes bounds its length; 0 is the general limit of settings.
	MaxBytes int
}

// SharedSettings are those that every protocol has.
func SharedSettings() []Setting {
	return []Setting{
		{Name: "headers", Flag: "header", Placeholder: "NAME=VALUE", Help: "Header added to every message. May be repeated."},
		{Name: "ca", Help: "PEM of the authorities trusted for TLS, instead of the system's."},
		{Name: "servername", Flag: "server-name", Placeholder: "NAME", Help: "Name to verify in the server's TLS certificate, instead of the sink's host.", MaxBytes: 253},
	}
}

// Invalid is the error of a target that can't be opened for these problems,
// of [ClassInvalid]; nil if there are none.
func Invalid(problems []problem.Field) error {
	if len(problems) == 0 {
		return nil
	}
	all := make([]error, len(problems))
	for i, p := range problems {
		all[i] = p
	}
	return Failed(ClassInvalid, errors.Join(all...))
}
