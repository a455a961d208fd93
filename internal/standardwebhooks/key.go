// Package standardwebhooks signs and verifies webhooks as the Standard Webhooks
// specification 1.0 says: v1, HMAC-SHA256 with a shared secret, and v1a, ed25519.
//
// A [Key] does not show itself when printed or logged, and no error holds a part
// of one. Keys are immutable and may be used concurrently.
package standardwebhooks

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
)

// Prefixes of keys as text; base64 follows.
const (
	PrefixHMAC    = "whsec_" // a shared secret
	PrefixPrivate = "whsk_"  // an ed25519 private key, or its seed
	PrefixPublic  = "whpk_"  // an ed25519 public key
)

// Kinds of keys, after the signatures they make and verify.
const (
	KindHMAC    = "v1"
	KindEd25519 = "v1a"
)

// The length of a shared secret in bytes, as the specification has it.
const (
	minSecret = 24
	maxSecret = 64
)

// Hint says what a signing key looks like.
const Hint = `"whsec_" and the base64 of 24 to 64 random bytes, or "whsk_" and the base64 of an ed25519 private key; leave it out to have one made`

// Key verifies, and signs unless it is a public key. The zero value does neither.
type Key struct {
	secret  []byte
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// Parse reads a key of any kind.
func Parse(s string) (Key, error) {
	prefix, encoded, ok := strings.Cut(strings.TrimSpace(s), "_")
	if !ok {
		return Key{}, errors.New("has no prefix: a key begins with whsec_ (shared secret), whsk_ (private key) or whpk_ (public key)")
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return Key{}, errors.New("is not base64 after its prefix")
	}
	switch prefix + "_" {
	case PrefixHMAC:
		if len(raw) < minSecret || len(raw) > maxSecret {
			return Key{}, errors.New("does not have 24 to 64 bytes")
		}
		return Key{secret: raw}, nil
	case PrefixPrivate:
		switch len(raw) {
		case ed25519.SeedSize:
			return fromPrivate(ed25519.NewKeyFromSeed(raw)), nil
		case ed25519.PrivateKeySize:
			key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
			if !bytes.Equal(key, raw) {
				return Key{}, errors.New("is a private key whose public half does not belong to it")
			}
			return fromPrivate(key), nil
		}
		return Key{}, errors.New("is not an ed25519 private key")
	case PrefixPublic:
		if len(raw) != ed25519.PublicKeySize {
			return Key{}, errors.New("is not an ed25519 public key")
		}
		return Key{public: raw}, nil
	}
	return Key{}, errors.New("has a prefix that is neither whsec_, whsk_ nor whpk_")
}

// ParseSigning reads a key that can sign.
func ParseSigning(s string) (Key, error) {
	k, err := Parse(s)
	if err == nil && !k.signs() {
		return Key{}, errors.New("is a public key; signing needs the private one")
	}
	return k, err
}

// Generate makes a new signing key of a kind; "" is [KindHMAC].
func Generate(kind string) (Key, error) {
	switch kind {
	case KindEd25519:
		_, key, err := ed25519.GenerateKey(nil)
		return fromPrivate(key), err
	case KindHMAC, "":
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails
		return Key{secret: raw}, nil
	}
	return Key{}, errors.New("is neither v1 nor v1a")
}

func fromPrivate(key ed25519.PrivateKey) Key {
	if key == nil {
		return Key{}
	}
	return Key{private: key, public: key.Public().(ed25519.PublicKey)}
}

func (k Key) signs() bool { return k.secret != nil || k.private != nil }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.secret == nil && k.public == nil }

// Kind is [KindHMAC] or [KindEd25519].
func (k Key) Kind() string {
	if k.public != nil {
		return KindEd25519
	}
	return KindHMAC
}

// Reveal is the key as [Parse] reads it.
func (k Key) Reveal() string {
	switch {
	case k.private != nil:
		return PrefixPrivate + base64.StdEncoding.EncodeToString(k.private)
	case k.public != nil:
		return k.Public()
	case k.secret != nil:
		return PrefixHMAC + base64.StdEncoding.EncodeToString(k.secret)
	}
	return ""
}

// Public is the public key as [Parse] reads it; "" for a shared secret.
func (k Key) Public() string {
	if k.public == nil {
		return ""
	}
	return PrefixPublic + base64.StdEncoding.EncodeToString(k.public)
}

// String is the key's kind.
func (k Key) String() string { return "key for " + k.Kind() + " signatures" }

// GoString is String.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
