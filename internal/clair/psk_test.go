package clair_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/clair"
)

// The example of RFC 7515, appendix A.1: made by others.
const (
	rfcKey = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	rfcJWT = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." +
		"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ." +
		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	rfcExpires = 1300819380
)

func TestPSKVerifiesTheStandardsExample(t *testing.T) {
	t.Parallel()
	key, err := base64.RawURLEncoding.DecodeString(rfcKey)
	if err != nil {
		t.Fatal(err)
	}
	at := func(sec int64) *clair.PSK {
		return &clair.PSK{Key: key, Issuers: []string{"joe"}, Now: func() time.Time { return time.Unix(sec, 0) }}
	}
	for sec, ok := range map[int64]bool{rfcExpires - 3600: true, rfcExpires + 14: true, rfcExpires + 16: false} {
		if err := at(sec).Verify(rfcJWT); (err == nil) != ok {
			t.Errorf("at %+d s: %v", sec-rfcExpires, err)
		}
	}
	for what, p := range map[string]*clair.PSK{
		"another key":    {Key: append([]byte{1}, key...), Issuers: []string{"joe"}, Now: at(rfcExpires).Now},
		"no key":         {Issuers: []string{"joe"}, Now: at(rfcExpires).Now},
		"another issuer": {Key: key, Issuers: []string{"quay"}, Now: at(rfcExpires).Now},
	} {
		if err := p.Verify(rfcJWT); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for i := range len(rfcJWT) - 1 { // the last character holds padding bits
		c := byte('A')
		if rfcJWT[i] == 'A' {
			c = 'B'
		}
		if at(rfcExpires).Verify(rfcJWT[:i]+string(c)+rfcJWT[i+1:]) == nil {
			t.Errorf("accepted with character %d changed", i)
		}
	}
}

func TestPSKAlgorithmsAndTimes(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	now := time.Unix(1_800_000_000, 0)
	p := &clair.PSK{Key: key, Issuers: []string{"quay"}, Now: func() time.Time { return now }}
	sign := func(alg func() hash.Hash, header, claims string) string {
		e := base64.RawURLEncoding
		s := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims))
		m := hmac.New(alg, key)
		m.Write([]byte(s))
		return s + "." + e.EncodeToString(m.Sum(nil))
	}
	claims := func(name string, offset int) string {
		return fmt.Sprintf(`{"iss":"quay",%q:%d}`, name, now.Unix()+int64(offset))
	}
	for _, c := range []struct {
		what  string
		token string
		ok    bool
	}{
		{"HS256", sign(sha256.New, `{"alg":"HS256"}`, `{"iss":"quay"}`), true},
		{"HS384", sign(sha512.New384, `{"alg":"HS384"}`, `{"iss":"quay"}`), true},
		{"HS512", sign(sha512.New, `{"alg":"HS512"}`, `{"iss":"clair-intraservice"}`), true},
		{"no alg", sign(sha256.New, `{}`, `{"iss":"quay"}`), false},
		{"alg none", sign(sha256.New, `{"alg":"none"}`, `{"iss":"quay"}`), false},
		{"alg none, no signature", strings.TrimRight(sign(sha256.New, `{"alg":"none"}`, `{"iss":"quay"}`), "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), false},
		{"alg and hash differ", sign(sha512.New, `{"alg":"HS256"}`, `{"iss":"quay"}`), false},
		{"critical extension", sign(sha256.New, `{"alg":"HS256","crit":["b64"]}`, `{"iss":"quay"}`), false},
		{"no issuer", sign(sha256.New, `{"alg":"HS256"}`, `{}`), false},
		{"claims not an object", sign(sha256.New, `{"alg":"HS256"}`, `"quay"`), false},
		{"nbf within the leeway", sign(sha256.New, `{"alg":"HS256"}`, claims("nbf", 14)), true},
		{"nbf later", sign(sha256.New, `{"alg":"HS256"}`, claims("nbf", 16)), false},
		{"iat later", sign(sha256.New, `{"alg":"HS256"}`, claims("iat", 16)), false},
		{"exp within the leeway", sign(sha256.New, `{"alg":"HS256"}`, claims("exp", -14)), true},
		{"empty", "", false},
		{"two parts", "a.b", false},
	} {
		if err := p.Verify(c.token); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// What Tocsin's webhooks bring is what Clair's notifier signs.
func TestNotifierToken(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	now := time.Unix(1_800_000_000, 0)
	p := &clair.PSK{Key: key, Issuers: []string{"clair-notifier"}, Now: func() time.Time { return now }}
	token, err := p.NotifierToken()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(parts[0] + "." + parts[1]))
	if sum := base64.RawURLEncoding.EncodeToString(m.Sum(nil)); sum != parts[2] {
		t.Error("the signature is not HS256 of the key")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if want := `{"exp":1800000060,"iat":1800000000,"iss":"clair-notifier","nbf":1799999940}`; err != nil || string(claims) != want {
		t.Errorf("claims are %s, want %s", claims, want)
	}
	if err := p.Verify(token); err != nil {
		t.Error(err)
	}
}
