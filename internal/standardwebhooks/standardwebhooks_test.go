package standardwebhooks_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/internal/standardwebhooks"
)

func symmetric(n int) string {
	return standardwebhooks.PrefixHMAC + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n)))
}

func header(id string, at time.Time, signature string) http.Header {
	h := http.Header{}
	h.Set(standardwebhooks.HeaderID, id)
	h.Set(standardwebhooks.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderSignature, signature)
	return h
}

func key(t *testing.T, s string) standardwebhooks.Key {
	t.Helper()
	k, err := standardwebhooks.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The official library accepts what is signed here, and the other way round.
func TestOfficialLibrary(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte("body")
	wh, err := official.NewWebhook(symmetric(32))
	if err != nil {
		t.Fatal(err)
	}
	keys := []standardwebhooks.Key{key(t, symmetric(32))}
	if err := wh.Verify(body, header("msg_1", now, standardwebhooks.Signature(keys, "msg_1", now, body))); err != nil {
		t.Error(err)
	}
	sig, err := wh.Sign("msg_1", now, body)
	if err != nil {
		t.Fatal(err)
	}
	if kind, err := standardwebhooks.Verify(keys, header("msg_1", now, sig), body, now, standardwebhooks.Tolerance); kind != "v1" || err != nil {
		t.Errorf("%q, %v", kind, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte("body")
	pair, err := standardwebhooks.Generate(standardwebhooks.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	right := []standardwebhooks.Key{key(t, symmetric(24)), pair}
	h := header("msg_1", now, standardwebhooks.Signature(right, "msg_1", now, body))
	for name, c := range map[string]struct {
		keys []standardwebhooks.Key
		h    http.Header
		body string
		at   time.Time
		want error
	}{
		"both keys":      {right, h, "body", now, nil},
		"public half":    {[]standardwebhooks.Key{key(t, pair.Public())}, h, "body", now, nil},
		"another key":    {[]standardwebhooks.Key{key(t, symmetric(25))}, h, "body", now, standardwebhooks.ErrSignature},
		"no key":         {[]standardwebhooks.Key{{}}, h, "body", now, standardwebhooks.ErrSignature},
		"changed body":   {right, h, "body ", now, standardwebhooks.ErrSignature},
		"too late":       {right, h, "body", now.Add(6 * time.Minute), standardwebhooks.ErrTimestamp},
		"too early":      {right, h, "body", now.Add(-6 * time.Minute), standardwebhooks.ErrTimestamp},
		"far from now":   {right, header("msg_1", time.Unix(-1<<62, 0), "v1,AAAA"), "body", now, standardwebhooks.ErrTimestamp},
		"unsigned":       {right, http.Header{}, "body", now, standardwebhooks.ErrUnsigned},
		"garbage":        {right, header("msg_1", now, "v1,!!! v1 ,, v1a, v2,AAAA"), "body", now, standardwebhooks.ErrSignature},
		"the other kind": {[]standardwebhooks.Key{pair}, header("msg_1", now, standardwebhooks.Signature(right[:1], "msg_1", now, body)), "body", now, standardwebhooks.ErrSignature},
	} {
		if _, err := standardwebhooks.Verify(c.keys, c.h, []byte(c.body), c.at, standardwebhooks.Tolerance); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A key is as long as the specification wants, wherever it is read, and neither
// itself nor an error shows it.
func TestParse(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mixed := append([]byte(nil), private...)
	mixed[40] ^= 1
	b64 := base64.StdEncoding.EncodeToString
	for s, kind := range map[string]string{
		symmetric(23): "", symmetric(24): "v1", symmetric(64): "v1", symmetric(65): "",
		"whsk_" + b64(private): "v1a", "whsk_" + b64(private.Seed()): "v1a", "whsk_" + b64(mixed): "", "whsk_AAAA": "",
		"whpk_" + b64(private[32:]): "v1a", "whpk_AAAA": "", "": "", "secret": "", "whsec_!": "", "wh_AAAA": "",
	} {
		k, err := standardwebhooks.Parse(s)
		if (err == nil) != (kind != "") || err == nil && k.Kind() != kind {
			t.Errorf("%.12s… with %d characters: %v, %v", s, len(s), k, err)
		}
		if shown := fmt.Sprintf("%v %+v %#v %v", k, k, k, err); len(s) > 8 && strings.Contains(shown, s[7:]) {
			t.Errorf("it shows itself: %s", shown)
		}
		if err == nil {
			if again, err := standardwebhooks.Parse(k.Reveal()); err != nil || again.Reveal() != k.Reveal() {
				t.Errorf("not read back: %v", err)
			}
			_, err := standardwebhooks.ParseSigning(s)
			if signs := !strings.HasPrefix(s, "whpk_"); (err == nil) != signs {
				t.Errorf("%.8s… signs: %v", s, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(symmetric(24))
	f.Add("whpk_AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := standardwebhooks.Parse(s); err == nil {
			if _, err := standardwebhooks.Parse(k.Reveal()); err != nil {
				t.Error(err)
			}
		}
	})
}
