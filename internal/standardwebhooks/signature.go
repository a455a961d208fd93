package standardwebhooks

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed webhook.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Tolerance is how far a webhook's timestamp may be from now, unless a receiver
// says otherwise.
const Tolerance = 5 * time.Minute

// Reasons why [Verify] refuses a request.
var (
	ErrUnsigned  = errors.New("not signed: no webhook-id, webhook-timestamp and webhook-signature headers")
	ErrTimestamp = errors.New("webhook-timestamp is not a number, or too far from now (is the clock right?)")
	ErrSignature = errors.New("no signature in webhook-signature matches any of the keys")
)

// head is what a signature covers before the body.
func head(id, stamp string) []byte {
	h := make([]byte, 0, len(id)+len(stamp)+2)
	h = append(h, id...)
	h = append(h, '.')
	h = append(h, stamp...)
	return append(h, '.')
}

func (k Key) mac(head, body []byte) []byte {
	m := hmac.New(sha256.New, k.secret)
	m.Write(head)
	m.Write(body)
	return m.Sum(nil)
}

// Signature is the value of the signature header of a message: one signature by
// each key, in their order.
func Signature(keys []Key, id string, at time.Time, body []byte) string {
	h := head(id, strconv.FormatInt(at.Unix(), 10))
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		var sig []byte
		if k.private != nil {
			sig = ed25519.Sign(k.private, slices.Concat(h, body))
		} else {
			sig = k.mac(h, body)
		}
		b.WriteString(k.Kind() + "," + base64.StdEncoding.EncodeToString(sig))
	}
	return b.String()
}

// Verify checks a received webhook: that its timestamp is within tolerance of now,
// and that one of its signatures is by one of keys, whose kind it returns. The
// error is one of [ErrUnsigned], [ErrTimestamp] and [ErrSignature].
func Verify(keys []Key, h http.Header, body []byte, now time.Time, tolerance time.Duration) (kind string, err error) {
	id, stamp, sigs := h.Get(HeaderID), h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	if id == "" || stamp == "" || sigs == "" {
		return "", ErrUnsigned
	}
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Unix(unix, 0).Sub(now).Abs() > tolerance {
		return "", ErrTimestamp
	}
	start := head(id, stamp)
	for s := range strings.FieldsSeq(sigs) {
		kind, text, _ := strings.Cut(s, ",")
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, k := range keys {
			if k.Kind() == kind && !k.IsZero() && k.verifies(start, body, sig) {
				return kind, nil
			}
		}
	}
	return "", ErrSignature
}

func (k Key) verifies(head, body, sig []byte) bool {
	if k.public != nil {
		return ed25519.Verify(k.public, slices.Concat(head, body), sig)
	}
	return hmac.Equal(sig, k.mac(head, body))
}
