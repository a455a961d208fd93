package api

import (
	"bytes"
	"strings"
	"testing"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// Every field of a request to rotate does what it says; 0 is not absent.
func TestRotate(t *testing.T) {
	t.Parallel()
	keys, err := secrets.New(bytes.Repeat([]byte{7}, secrets.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	filters, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := subscription.New(subscription.Options{Pool: postgrestest.New(t), Filters: filters, Keyring: keys})
	if err != nil {
		t.Fatal(err)
	}
	api := subscriptions{store: store}
	for _, tc := range []struct {
		request v1.RotateRequest
		prefix  string
		overlap time.Duration
	}{
		{v1.RotateRequest{}, "whsec_", 24 * time.Hour},
		{v1.RotateRequest{Kind: "v1a", Overlap: new(0)}, "whsk_", 0},
		{v1.RotateRequest{Kind: "v1", Overlap: new(3600)}, "whsec_", time.Hour},
		{v1.RotateRequest{Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Overlap: new(0)}, "", 0},
	} {
		s, _, err := api.Create(t.Context(), "", schemas.Subscription{Sink: "https://example.com/hook", Protocol: schemas.ProtocolHTTP})
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.Rotate(t.Context(), "", s.ID, tc.request)
		if err != nil || !strings.HasPrefix(got.Secret, tc.prefix) || (got.Secret == "") != (tc.prefix == "") {
			t.Errorf("%+v: secret %.6s…, %v", tc.request, got.Secret, err)
			continue
		}
		if tc.overlap == 0 {
			if len(got.Secrets) != 1 {
				t.Errorf("%+v: %d secrets sign, want the new one alone", tc.request, len(got.Secrets))
			}
			continue
		}
		if len(got.Secrets) != 2 || got.Secrets[1].ExpiresAt == nil || time.Until(*got.Secrets[1].ExpiresAt).Round(time.Minute) != tc.overlap {
			t.Errorf("%+v: %+v", tc.request, got.Secrets)
		}
	}
}
