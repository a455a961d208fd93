package listen

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

// DefaultTolerance is how old, or how far in the future, a message may be.
const DefaultTolerance = 5 * time.Minute

// Errors of [Key.verify], as a receiver answers them.
var (
	errUnsigned  = errors.New("not signed: no webhook-id, webhook-timestamp and webhook-signature headers")
	errTimestamp = errors.New("webhook-timestamp is not a number, or too far from now")
	errSignature = errors.New("no signature in webhook-signature verifies")
)

// Key verifies Standard Webhooks signatures: v1 (HMAC-SHA256) with a shared
// secret, v1a (ed25519) with a public key.
type Key struct {
	secret []byte
	public ed25519.PublicKey
}

// ParseKey reads "whsec_" and a base64 secret, or "whpk_" and a base64 public
// key. Its errors hold no part of either.
func ParseKey(s string) (Key, error) {
	s = strings.TrimSpace(s)
	if body, ok := strings.CutPrefix(s, "whpk_"); ok {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return Key{}, errors.New("after whpk_ there must be 32 bytes in base64")
		}
		return Key{public: b}, nil
	}
	body, ok := strings.CutPrefix(s, "whsec_")
	if !ok {
		return Key{}, errors.New("a key starts with whsec_ (shared secret) or whpk_ (public key)")
	}
	b, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(b) < 16 {
		return Key{}, errors.New("after whsec_ there must be at least 16 bytes in base64")
	}
	return Key{secret: b}, nil
}

// scheme is the signature scheme the key verifies.
func (k Key) scheme() string {
	if k.public != nil {
		return "v1a"
	}
	return "v1"
}

func (k Key) matches(signed, sig []byte) bool {
	if k.public != nil {
		return ed25519.Verify(k.public, signed, sig)
	}
	m := hmac.New(sha256.New, k.secret)
	m.Write(signed)
	return hmac.Equal(sig, m.Sum(nil))
}

// verify finds the first key and signature that agree, and returns the scheme.
func verify(keys []Key, h http.Header, body []byte, now time.Time, tolerance time.Duration) (string, error) {
	id, stamp, sigs := h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature")
	if id == "" || stamp == "" || sigs == "" {
		return "", errUnsigned
	}
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Unix(sec, 0).Sub(now).Abs() > tolerance {
		return "", errTimestamp
	}
	signed := fmt.Appendf(nil, "%s.%s.%s", id, stamp, body)
	for s := range strings.FieldsSeq(sigs) {
		scheme, text, _ := strings.Cut(s, ",")
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, k := range keys {
			if k.scheme() == scheme && k.matches(signed, sig) {
				return scheme, nil
			}
		}
	}
	return "", errSignature
}
