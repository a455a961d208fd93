package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin.dev/tocsin/delivery"
)

// The headers of Standard Webhooks.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Prefixes of keys as text; base64 follows.
const (
	PrefixHMAC    = "whsec_" // a symmetric key
	PrefixPrivate = "whsk_"  // an ed25519 private key, or its seed
	PrefixPublic  = "whpk_"  // an ed25519 public key
)

// minHMAC is the shortest symmetric key in bytes; the specification wants 24
// to 64, a longer one does no harm.
const minHMAC = 24

// signer signs with one secret what head and body are together.
type signer interface {
	sign(head, body []byte) string
}

type hmacKey []byte

func (k hmacKey) sign(head, body []byte) string {
	mac := hmac.New(sha256.New, k)
	mac.Write(head)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

type ed25519Key ed25519.PrivateKey

func (k ed25519Key) sign(head, body []byte) string {
	return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.PrivateKey(k), slices.Concat(head, body)))
}

// signers reads secrets; an error says what is wrong without showing them.
func signers(secrets []delivery.Secret) ([]signer, error) {
	out := make([]signer, len(secrets))
	for i, s := range secrets {
		k, err := parseSecret(string(s))
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d: %w", i+1, len(secrets), err)
		}
		out[i] = k
	}
	return out, nil
}

var errSecret = errors.New(`must be "whsec_" and the base64 of 24 bytes or more, or "whsk_" and the base64 of an ed25519 private key`)

func parseSecret(s string) (signer, error) {
	if text, ok := strings.CutPrefix(s, PrefixPrivate); ok {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errSecret
		}
		switch len(raw) {
		case ed25519.SeedSize:
			return ed25519Key(ed25519.NewKeyFromSeed(raw)), nil
		case ed25519.PrivateKeySize:
			return ed25519Key(raw), nil
		}
		return nil, errSecret
	}
	text, ok := strings.CutPrefix(s, PrefixHMAC)
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) < minHMAC {
		return nil, errSecret
	}
	return hmacKey(raw), nil
}

// head is what a signature covers before the body.
func head(id string, at time.Time) []byte {
	h := make([]byte, 0, len(id)+24)
	h = append(h, id...)
	h = append(h, '.')
	h = strconv.AppendInt(h, at.Unix(), 10)
	return append(h, '.')
}

// signature is the value of the signature header.
func signature(keys []signer, id string, at time.Time, body []byte) string {
	h := head(id, at)
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(k.sign(h, body))
	}
	return b.String()
}

// keysAt are the keys that sign at a moment: those that a rotation has replaced
// stop at the end of its overlap, however long the target is open.
func (t *target) keysAt(now time.Time) []signer {
	out := make([]signer, 0, len(t.keys))
	for i, k := range t.keys {
		if until := t.until[i]; until.IsZero() || now.Before(until) {
			out = append(out, k)
		}
	}
	return out
}
