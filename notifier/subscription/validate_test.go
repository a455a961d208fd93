package subscription

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// TestEveryProblemIsNamed holds what is refused to its field.
func TestEveryProblemIsNamed(t *testing.T) {
	t.Parallel()
	w := newStore(t)
	long := strings.Repeat("x", 5000)
	for _, tc := range []struct{ body, pointer, detail string }{
		{`{"name":"` + long + `"}`, "/name", "over the limit of 200"},
		{`{"name":"a\u0007"}`, "/name", "control characters"},
		{`{"key":"` + long + `"}`, "/key", "over the limit"},
		{`{"labels":{"a/b":"` + long + `"}}`, "/labels/a~1b", "over the limit"},
		// Sinks.
		{`{"sink":""}`, "/sink", "is missing"},
		{`{"sink":"ftp://example.com"}`, "/protocol", `scheme "ftp"`},
		{`{"sink":"ftp://example.com","protocol":"HTTP"}`, "/sink", `scheme "ftp"`},
		{`{"sink":"https://user:hunter2@example.com/"}`, "/sink", "credentials"},
		{`{"sink":"https://example.com/#x"}`, "/sink", "fragment"},
		{`{"sink":"https:///x"}`, "/sink", "no host"},
		{`{"sink":"https://example.com:99999/"}`, "/sink", `port is "99999"`},
		{`{"sink":"https://example.com:/"}`, "/sink", "port is empty"},
		{`{"sink":"https://exa mple.com/hunter2"}`, "/sink", "is not a URL"},
		{`{"sink":"https://example.com/` + long + `"}`, "/sink", "over the limit of 2048"},
		{`{"protocol":"GOPHER"}`, "/protocol", `is "GOPHER"`},
		{`{"protocol":"AMQP"}`, "/sink", `scheme "https" is not one of AMQP`},
		// Types and filters.
		{`{"types":["dev.tocsin.ping.v1","dev.tocsin.nothing"]}`, "/types/1", `no event type "dev.tocsin.nothing"`},
		{`{"filters":[{}]}`, "/filters/0", "empty filter"},
		{`{"filters":[{"exact":{"colour":"red"}}]}`, "/filters/0/exact/colour", "no event has"},
		{`{"filters":[{"any":[{"sql":"severityrank >= "}]}]}`, "/filters/0/any/0/sql", "line 1, column 17"},
		{`{"filters":[{"cel":"data."}]}`, "/filters/0/cel", "line 1"},
		// Settings.
		{`{"protocolsettings":{"headers":{"Bad Header":"x"}}}`, "/protocolsettings/headers/Bad Header", "not a header name"},
		{`{"protocolsettings":{"headers":{"Authorization":"Bearer hunter2"}}}`, "/protocolsettings/headers/Authorization", "in clear"},
		{`{"protocolsettings":{"headers":{"Webhook-Id":"x"}}}`, "/protocolsettings/headers/Webhook-Id", "by the delivery"},
		{`{"protocolsettings":{"headers":{"X-A":"a\r\nX-B: b"}}}`, "/protocolsettings/headers/X-A", "control characters"},
		{`{"protocolsettings":{"exchange":"x"}}`, "/protocolsettings/exchange", "no setting of HTTP"},
		{`{"sink":"amqp://b","protocol":"AMQP","protocolsettings":{"exchangetype":"x"}}`, "/protocolsettings/exchangetype", `is "x"`},
		{`{"sink":"amqp://b","protocol":"AMQP","protocolsettings":{"declare":"active"}}`, "/protocolsettings/exchange", "is missing"},
		{`{"sink":"amqp://b","protocol":"AMQP","protocolsettings":{"routingkey":"{colour}"}}`, "/protocolsettings/routingkey", "no placeholder"},
		{`{"sink":"amqp://b","protocol":"AMQP","protocolsettings":{"failover":["amqp://u:hunter2@c"]}}`, "/protocolsettings/failover/0", "credentials"},
		{`{"sink":"stomp://b","protocol":"STOMP"}`, "/protocolsettings/destination", "is missing"},
		{`{"protocolsettings":{"ca":"nonsense"}}`, "/protocolsettings/ca", "no certificate"},
		// Secrets, none of which may be repeated.
		{`{"secret":"hunter2"}`, "/secret", "no prefix"},
		{`{"secret":"whsec_hunter2"}`, "/secret", "not base64"},
		{`{"secret":"whsec_aHVudGVyMg=="}`, "/secret", "24 to 64 bytes"},
		{`{"secret":"whsk_aHVudGVyMg=="}`, "/secret", "not an ed25519"},
		{`{"secret":"whpk_aHVudGVyMg=="}`, "/secret", "public key"},
		{`{"secret":"pgp_aHVudGVyMg=="}`, "/secret", "neither"},
		{`{"sink":"nats://n","protocol":"NATS","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`, "/secret", "only webhooks"},
		{`{"sinkcredential":{"credentialtype":"X"}}`, "/sinkcredential/credentialtype", `is "X"`},
		{`{"sinkcredential":{"credentialtype":"PLAIN","identifier":"u"}}`, "/sinkcredential/secret", "is missing"},
		{`{"sinkcredential":{"credentialtype":"ACCESSTOKEN","accesstoken":"Bearer hunter2"}}`, "/sinkcredential/accesstoken", "bearer token"},
		{`{"sinkcredential":{"credentialtype":"ACCESSTOKEN","accesstoken":"t","secret":"hunter2"}}`, "/sinkcredential/secret", "not for credentialtype"},
		{`{"sinkcredential":{"credentialtype":"CERTIFICATE","certificate":"hunter2","key":"hunter2"}}`, "/sinkcredential/certificate", "not a pair"},
		// Config.
		{`{"config":{"timeout":"1h"}}`, "/config/timeout", "is 1h0m0s"},
		{`{"config":{"timeout":"-1s"}}`, "/config/timeout", "is -1s"},
		{`{"config":{"concurrency":-1}}`, "/config/concurrency", "is -1"},
		{`{"config":{"concurrency":5,"ordered":true}}`, "/config/concurrency", "one at a time"},
		{`{"config":{"retry":{"schedule":["5s","0s"]}}}`, "/config/retry/schedule/1", "is zero"},
		{`{"config":{"retry":{"jitter":2}}}`, "/config/retry/jitter", "is 2"},
		{`{"config":{"rate":{"per_second":0}}}`, "/config/rate/per_second", "is 0"},
		{`{"config":{"breaker":{"failure_ratio":-0.5}}}`, "/config/breaker/failure_ratio", "is -0.5"},
		{`{"config":{"breaker":{"open_for":"1m","max_open_for":"1s"}}}`, "/config/breaker/max_open_for", "shorter"},
		{`{"config":{"mode":"xml"}}`, "/config/mode", `is "xml"`},
		{`{"config":{"batch_size":5}}`, "/config/batch_size", "batched"},
		{`{"config":{"granularity":"day"}}`, "/config/granularity", `is "day"`},
		{`{"config":{"mode":"clair"}}`, "/config/granularity", "whole updates"},
		{`{"sink":"nats://n","protocol":"NATS","config":{"mode":"batched"}}`, "/config/mode", "no mode of NATS"},
		{`{"sink":"nats://n","protocol":"NATS","config":{"mode":"clair","granularity":"update"}}`, "/config/mode", "no mode of NATS"},
		{`{"sink":"nats://n","protocol":"NATS","config":{"handshake":true}}`, "/config/handshake", "webhooks"},
	} {
		var spec schemas.Subscription
		err := json.Unmarshal([]byte(tc.body), &spec)
		if err == nil {
			if !strings.Contains(tc.body, `"sink"`) {
				spec.Sink = "https://example.com/hook"
			}
			_, _, err = w.Create(t.Context(), "", spec)
		}
		refused, ok := fieldsOf(err)
		if !ok {
			t.Errorf("%.80s: %v", tc.body, err)
			continue
		}
		found := false
		for _, f := range refused {
			found = found || f.Field == tc.pointer && strings.Contains(f.Message, tc.detail)
		}
		if !found {
			t.Errorf("%.80s: %v, want %s: %s", tc.body, refused, tc.pointer, tc.detail)
		}
		if strings.Contains(tc.body, "hunter2") && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the refusal repeats a secret: %v", err)
		}
		if len(err.Error()) > 2000 {
			t.Errorf("%.80s: a refusal of %d bytes", tc.body, len(err.Error()))
		}
	}
	if n := count(t, w); n != 0 {
		t.Errorf("%d were stored all the same", n)
	}
}

// TestUncallableSinksAreRefused holds what the delivery would never call to
// its field, when it is created and when it is replaced.
func TestUncallableSinksAreRefused(t *testing.T) {
	t.Parallel()
	w := newStore(t, func(o *Options) {
		o.Sinks = protocols.Checker{Reachable: func(raw string) error {
			switch {
			case strings.Contains(raw, "127.0.0.1"):
				return problem.Field{Field: "/elsewhere", Message: "would never be called", Hint: "some.key"}
			case strings.Contains(raw, "0x7f"):
				return errors.New("is spelled strangely")
			}
			return nil
		}}
	})
	existing, _, err := w.Create(t.Context(), "", schemas.Subscription{Sink: "https://example.com/hook"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		body string
		want []problem.Field
	}{
		{`{"sink":"https://example.com/hook"}`, nil},
		{`{"sink":"http://127.0.0.1:80/"}`, []problem.Field{{Field: "/sink", Message: "would never be called", Hint: "some.key"}}},
		{`{"sink":"http://0x7f.1/"}`, []problem.Field{{Field: "/sink", Message: "is spelled strangely", Hint: ""}}},
		{`{"sink":"http:///127.0.0.1"}`, []problem.Field{{Field: "/sink", Message: "has no host", Hint: ""}}},
		{`{"sink":"amqp://b","protocol":"AMQP","protocolsettings":{"routingkey":"q","failover":["amqp://c","amqp://127.0.0.1"]}}`,
			[]problem.Field{{Field: "/protocolsettings/failover/1", Message: "would never be called", Hint: "some.key"}}},
	} {
		var spec schemas.Subscription
		if err := json.Unmarshal([]byte(tc.body), &spec); err != nil {
			t.Fatal(err)
		}
		_, _, created := w.Create(t.Context(), "", spec)
		_, replaced := w.Replace(t.Context(), "", existing.ID, spec)
		for doing, err := range map[string]error{"create": created, "replace": replaced} {
			if tc.want == nil {
				if err != nil {
					t.Errorf("%s %s: %v", doing, tc.body, err)
				}
				continue
			}
			refused, ok := fieldsOf(err)
			if !ok || !slices.Equal(refused, tc.want) {
				t.Errorf("%s %s: %v, want %v", doing, tc.body, err, tc.want)
			}
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	w := newStore(t)
	_, _, err := w.Create(t.Context(), "", schemas.Subscription{
		Sink: "ftp://x", Protocol: "HTTP", Types: []string{"x"}, Filters: []schemas.Filter{{}}, Config: schemas.SubscriptionConfig{Mode: "x"},
	})
	refused, ok := fieldsOf(err)
	if !ok || len(refused) != 4 {
		t.Errorf("%v", err)
	}
}
