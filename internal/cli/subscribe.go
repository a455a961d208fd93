package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"tocsin.dev/tocsin/delivery/protocols"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/notifier/filter/flags"
	"tocsin.dev/tocsin/schemas"
)

// wishes are the flags that say which events are wanted.
type wishes struct {
	Types    []string `name:"type" help:"Event types, long or short (vulnerabilities_changed, indexed, update.completed); all for every type. Default: vulnerabilities_changed." placeholder:"TYPE"`
	Severity string   `help:"Only changes at least this severe." placeholder:"SEVERITY"`
	Fixable  bool     `help:"Only changes that a newer version fixes."`
	KEV      bool     `name:"kev" help:"Only vulnerabilities known to be exploited (CISA KEV)."`
	EPSS     int      `name:"epss" help:"Only an exploit prediction (EPSS) of at least so many percent." placeholder:"PERCENT"`
	Images   []string `name:"image" help:"Only images with names like this; * stands for anything. May be repeated." placeholder:"PATTERN"`
	Updaters []string `name:"updater" help:"Only changes by this updater or updater set. May be repeated." placeholder:"NAME"`
	// Superseded asks for the events of superseded images, too.
	Superseded bool     `help:"Also events of images that no name stands for any more. Without it they are left out."`
	SQL        []string `name:"sql" sep:"none" help:"A CloudEvents SQL expression that must hold. May be repeated." placeholder:"EXPR"`
	CEL        []string `name:"cel" sep:"none" help:"A CEL expression over the event and its data that must hold. May be repeated." placeholder:"EXPR"`
}

// compile turns the flags into types and filters.
func (w wishes) compile() (types []string, filters []schemas.Filter, err error) {
	for _, t := range w.Types {
		if t == "all" {
			types = nil
			break
		}
		full, err := eventType(t)
		if err != nil {
			return nil, nil, err
		}
		types = append(types, full)
	}
	if len(w.Types) == 0 {
		types = []string{schemas.TypeVulnerabilitiesChanged}
	}
	filters, err = flags.Filters(flags.Flags{Severity: w.Severity, Fixable: w.Fixable, KEV: w.KEV, EPSS: w.EPSS})
	if err != nil {
		return nil, nil, wrongFlag(err)
	}
	var images, updaters []schemas.Filter
	for _, i := range w.Images {
		f, err := flags.Filters(flags.Flags{Image: i})
		if err != nil {
			return nil, nil, wrongFlag(err)
		}
		images = append(images, f...)
	}
	for _, u := range w.Updaters {
		f, err := flags.Filters(flags.Flags{Updater: u})
		if err != nil {
			return nil, nil, wrongFlag(err)
		}
		updaters = append(updaters, f...)
		if !strings.ContainsAny(u, "/*?") { // a set's updaters are named set/…
			updaters = append(updaters, schemas.Filter{Prefix: map[string]string{"updater": u + "/"}})
		}
	}
	filters = append(append(filters, anyOf(images)...), anyOf(updaters)...)
	for _, s := range w.SQL {
		filters = append(filters, schemas.Filter{SQL: s})
	}
	for _, s := range w.CEL {
		filters = append(filters, schemas.Filter{CEL: s})
	}
	return types, filters, nil
}

// current adds to filters that events of superseded images are left out, unless
// they are asked for. An event that says that one was retired is not left out.
func (w wishes) current(types []string, filters []schemas.Filter) []schemas.Filter {
	if w.Superseded {
		return filters
	}
	f := schemas.Filter{Not: &schemas.Filter{Exact: map[string]string{"superseded": "true"}}}
	if len(types) == 0 || slices.Contains(types, schemas.TypeManifestRetired) {
		f = schemas.Filter{Any: []schemas.Filter{f, {Exact: map[string]string{"type": schemas.TypeManifestRetired}}}}
	}
	return append(filters, f)
}

// wrongFlag says which flag is wrong.
func wrongFlag(err error) error {
	fields := problem.Fields(err)
	if len(fields) == 0 {
		return err
	}
	f := fields[0]
	return usage("--%s %s; right would be: %s", strings.TrimPrefix(f.Field, "/"), f.Message, f.Hint)
}

// anyOf is one filter that holds if any of these does.
func anyOf(filters []schemas.Filter) []schemas.Filter {
	if len(filters) < 2 {
		return filters
	}
	return []schemas.Filter{{Any: filters}}
}

var shortTypes = map[string]string{
	"vulnerabilities_changed": schemas.TypeVulnerabilitiesChanged,
	"indexed":                 schemas.TypeManifestIndexed,
	"index_failed":            schemas.TypeManifestIndexFailed,
	"retired":                 schemas.TypeManifestRetired,
}

// eventType completes a short event type.
func eventType(t string) (string, error) {
	if full, ok := shortTypes[t]; ok {
		return full, nil
	}
	full := t
	if !strings.HasPrefix(full, schemas.TypePrefix) {
		full = schemas.TypePrefix + full
	}
	if !strings.HasSuffix(full, ".v1") {
		full += ".v1"
	}
	if !slices.Contains(schemas.Types, full) {
		return "", usage("%q is no event type: they are %s", t, strings.Join(schemas.Types, ", "))
	}
	return full, nil
}

type subscribeCmd struct {
	URL string `arg:"" help:"Where events go: ${sinks}"`
	wishes
	kong.Plugins                 // settingFlags
	Name         string          `help:"A name for people." placeholder:"NAME"`
	Key          string          `help:"Client key: subscribing again with it changes nothing and answers the first one." placeholder:"KEY"`
	Secret       string          `help:"Signing secret (whsec_…); made and printed if absent." env:"TOCSIN_WEBHOOK_SECRET" placeholder:"SECRET"`
	BearerToken  string          `help:"Bearer token sent to a webhook; better in the environment than here." env:"TOCSIN_SINK_TOKEN" placeholder:"TOKEN"`
	Mode         string          `help:"Content mode: structured, binary, batched or clair." enum:",structured,binary,batched,clair" default:""`
	Granularity  string          `help:"One event a manifest, or one digest a whole update." enum:",manifest,update" default:""`
	Ordered      bool            `help:"One delivery at a time, in order."`
	AttemptTime  time.Duration   `name:"attempt-timeout" help:"How long one attempt may take." placeholder:"DURATION"`
	Concurrency  int             `help:"At most so many attempts at a time." placeholder:"N"`
	Retry        []time.Duration `help:"Waits between attempts, as 5s,1m,10m; after the last it is a dead letter." placeholder:"DURATION"`
	Handshake    bool            `help:"Ask a webhook's consent first."`
	CAFile       string          `name:"ca-file" type:"existingfile" help:"PEM file of the authorities trusted for TLS, instead of the system's." placeholder:"FILE"`
	Rate         float64         `help:"At most so many deliveries a second." placeholder:"N"`
	User         string          `help:"User of a broker." placeholder:"USER"`
	Password     string          `help:"Password of a broker." env:"TOCSIN_SINK_PASSWORD" placeholder:"PASSWORD"`
	Current      bool            `help:"Send it what is there now, too: one indexed event, marked as a snapshot, for every image that the filters let through."`
	DryRun       bool            `help:"Only show what it would have matched."`
}

func (subscribeCmd) Help() string {
	return `The flags become standard CloudEvents filters; all of them must hold. Webhooks are signed (Standard Webhooks): the
secret is printed once, and ` + "`tocsin listen --secret`" + ` checks signatures.

Examples:
  tocsin subscribe https://example.com/hook --severity high --fixable --image 'registry/team/*'
  tocsin subscribe https://example.com/hook --kev --epss 10 --name exploited
  tocsin subscribe https://example.com/hook --severity critical --current
  tocsin subscribe amqps://mq.example.com/ --exchange tocsin --routing-key '{severity}.{updater}' --user u
  tocsin subscribe https://example.com/hook --cel 'data.added.exists(f, f.package.name == "openssl")' --dry-run`
}

func (c *subscribeCmd) subscription() (schemas.Subscription, error) {
	types, filters, err := c.compile()
	if c.Mode != schemas.ModeClair { // Clair knows no names
		filters = c.current(types, filters)
	}
	s := schemas.Subscription{
		Name: c.Name, Key: c.Key, Sink: c.URL, Types: types, Filters: filters, Secret: c.Secret,
		Config: schemas.SubscriptionConfig{
			Mode: c.Mode, Granularity: c.Granularity, Ordered: c.Ordered,
			Timeout: schemas.Duration(c.AttemptTime), Concurrency: c.Concurrency, Handshake: c.Handshake,
		},
	}
	if len(c.Plugins) > 0 {
		s.ProtocolSettings = settingsFromFlags(c.Plugins[0])
	}
	if c.Mode == schemas.ModeClair {
		s.Config.Granularity = schemas.GranularityUpdate // it speaks of whole updates
	}
	if len(c.Retry) > 0 {
		s.Config.Retry = &schemas.Retry{}
		for _, d := range c.Retry {
			s.Config.Retry.Schedule = append(s.Config.Retry.Schedule, schemas.Duration(d))
		}
	}
	if c.CAFile != "" {
		pem, readErr := os.ReadFile(c.CAFile)
		if readErr != nil {
			return s, usage("--ca-file: %w", readErr)
		}
		s.ProtocolSettings.CA = string(pem)
	}
	if c.Rate > 0 {
		s.Config.Rate = &schemas.Rate{PerSecond: c.Rate}
	}
	if c.User != "" {
		s.SinkCredential = &schemas.SinkCredential{CredentialType: schemas.CredentialPlain, Identifier: c.User, Secret: c.Password}
	}
	if c.BearerToken != "" {
		s.SinkCredential = &schemas.SinkCredential{CredentialType: schemas.CredentialAccessToken, AccessToken: c.BearerToken}
	}
	if s.Protocol = protocols.Of(c.URL); s.Protocol == "" && err == nil {
		err = usage("%q is not a URL events can be sent to: it looks like %s", c.URL, sinkExamples())
	}
	return s, err
}

func (c *subscribeCmd) Run(e *env) error {
	s, err := c.subscription()
	if err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	dry, err := dryRun(cl, s)
	if err != nil {
		return err
	}
	if c.DryRun {
		return e.print(dry, func() error { return e.printf("%s\n", dryLine(dry)) })
	}
	var made schemas.Subscription
	if err := cl.call(http.MethodPost, "/subscriptions", nil, s, &made); err != nil {
		if c.Key != "" && conflict(err) {
			return &hinted{error: err, hint: "`tocsin subscriptions` shows it. One that was made before superseded images were left out is the same with --superseded."}
		}
		return err
	}
	var current struct {
		Events int `json:"events"`
	}
	if c.Current {
		if err := cl.call(http.MethodPost, "/subscriptions/"+seg(made.ID)+"/current", nil, nil, &current); err != nil {
			return fmt.Errorf("subscribed as %s, but what is there could not be sent: %w", made.ID, err)
		}
	}
	return e.print(made, func() error {
		if err := e.printf("%s\n", made.ID); err != nil {
			return err
		}
		if c.Current {
			e.notef("It gets %s about what is there now.", terminal.Count(current.Events, "event"))
		}
		e.notef("Subscribed %s. %s", made.Sink, dryLine(dry))
		if c.Secret == "" && made.Secret != "" {
			e.notef("Signing secret, shown this once: %s", e.notice.Bold(made.Secret))
		}
		e.notef("Try it: tocsin subscriptions test %s", made.ID)
		return nil
	})
}

func dryRun(cl *client, s schemas.Subscription) (v1.DryRun, error) {
	var d v1.DryRun
	err := cl.call(http.MethodPost, "/subscriptions/dry-run", url.Values{"events": {"500"}}, s, &d)
	return d, err
}

func dryLine(d v1.DryRun) string {
	if d.Events == 0 {
		return "There are no events yet to try it on."
	}
	return fmt.Sprintf("It would have matched %d of the last %d events.", d.Matched, d.Events)
}
