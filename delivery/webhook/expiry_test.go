package webhook

import (
	"testing"
	"time"

	"tocsin.dev/tocsin/delivery"
)

// A secret that was replaced stops signing when its overlap ends, also on a
// target that stays open.
func TestReplacedSecretsStopSigning(t *testing.T) {
	t.Parallel()
	now := time.Now()
	fresh, old := delivery.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), delivery.Secret("whsec_AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	o := New(Options{})
	opened, err := o.Open(t.Context(), delivery.Subscription{
		Sink: "https://example.com/", Secrets: []delivery.Secret{fresh, old}, SecretsUntil: map[delivery.Secret]time.Time{old: now.Add(time.Hour)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close(t.Context())
	keys := opened.(*target).keysAt
	if n := len(keys(now)); n != 2 {
		t.Errorf("%d keys sign during the overlap, want both", n)
	}
	if left := keys(now.Add(time.Hour)); len(left) != 1 || left[0].Reveal() != string(fresh) {
		t.Errorf("%d keys sign after the overlap, want the new one", len(left))
	}
}
