package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far a webhook's timestamp may be from now.
const Tolerance = 5 * time.Minute

// Reasons why [Verify] refuses a request.
var (
	ErrHeaders   = errors.New("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
	ErrTimestamp = errors.New("webhook-timestamp is too far from now (is the clock right?)")
	ErrSignature = errors.New("no signature matches any of the keys")
)

// Verify checks a received webhook: its timestamp against now, and that one of
// its signatures is by one of keys, each "whsec_…" (symmetric), "whpk_…"
// (ed25519 public) or "whsk_…" (ed25519 private). The error wraps one of
// [ErrHeaders], [ErrTimestamp] and [ErrSignature], or is about a key.
func Verify(h http.Header, body []byte, keys []string, now time.Time) error {
	id, stamp, sigs := h.Get(HeaderID), h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	if id == "" || stamp == "" || sigs == "" {
		return ErrHeaders
	}
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ErrHeaders
	}
	at := time.Unix(unix, 0)
	if d := now.Sub(at); d > Tolerance || d < -Tolerance {
		return ErrTimestamp
	}
	content := append(head(id, at), body...)
	for i, key := range keys {
		check, err := parseKey(key)
		if err != nil {
			return fmt.Errorf("key %d of %d: %w", i+1, len(keys), err)
		}
		for s := range strings.FieldsSeq(sigs) {
			version, text, _ := strings.Cut(s, ",")
			sig, err := base64.StdEncoding.DecodeString(text)
			if err == nil && check(version, content, sig) {
				return nil
			}
		}
	}
	return ErrSignature
}

// parseKey returns the check of one key.
func parseKey(key string) (func(version string, content, sig []byte) bool, error) {
	if text, ok := strings.CutPrefix(key, PrefixPublic); ok {
		pub, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(pub) != ed25519.PublicKeySize {
			return nil, errors.New(`must be "whpk_" and the base64 of an ed25519 public key`)
		}
		return edCheck(pub), nil
	}
	s, err := parseSecret(key)
	if err != nil {
		return nil, err
	}
	switch k := s.(type) {
	case ed25519Key:
		return edCheck(ed25519.PrivateKey(k).Public().(ed25519.PublicKey)), nil
	case hmacKey:
		return func(version string, content, sig []byte) bool {
			mac := hmac.New(sha256.New, k)
			mac.Write(content)
			return version == "v1" && hmac.Equal(sig, mac.Sum(nil))
		}, nil
	}
	return nil, errSecret
}

func edCheck(pub ed25519.PublicKey) func(string, []byte, []byte) bool {
	return func(version string, content, sig []byte) bool {
		return version == "v1a" && ed25519.Verify(pub, content, sig)
	}
}
