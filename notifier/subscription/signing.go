package subscription

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
)

// Prefixes of signing secrets and public keys (Standard Webhooks).
const (
	prefixHMAC    = "whsec_"
	prefixPrivate = "whsk_"
	prefixPublic  = "whpk_"
)

// Kinds of signing secrets, after the signatures they make.
const (
	KindHMAC    = "v1"
	KindEd25519 = "v1a"
)

const signingHint = `"whsec_" and the base64 of 24 to 64 random bytes, or "whsk_" and the base64 of an ed25519 private key; leave it out to have one made`

// signing is a signing secret, checked.
type signing struct {
	kind   string
	text   string // as the client may have it
	public string // whpk_…, where kind is v1a
}

// parseSigningSecret checks a secret that a client brings. Its error does not
// repeat it.
func parseSigningSecret(text string) (signing, error) {
	prefix, encoded, ok := strings.Cut(text, "_")
	if !ok {
		return signing{}, errors.New("has no prefix")
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return signing{}, errors.New("is not base64 after its prefix")
	}
	switch prefix + "_" {
	case prefixHMAC:
		if len(raw) < 24 || len(raw) > 64 {
			return signing{}, errors.New("does not have 24 to 64 bytes")
		}
		return signing{kind: KindHMAC, text: text}, nil
	case prefixPrivate:
		switch len(raw) {
		case ed25519.SeedSize:
			return fromPrivate(ed25519.NewKeyFromSeed(raw)), nil
		case ed25519.PrivateKeySize:
			key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
			if !bytes.Equal(key, raw) {
				return signing{}, errors.New("is a private key whose public half does not belong to it")
			}
			return fromPrivate(key), nil
		}
		return signing{}, errors.New("is not an ed25519 private key")
	case prefixPublic:
		return signing{}, errors.New("is a public key; signing needs the private one")
	}
	return signing{}, errors.New("has a prefix that is neither whsec_ nor whsk_")
}

func fromPrivate(key ed25519.PrivateKey) signing {
	return signing{
		kind:   KindEd25519,
		text:   prefixPrivate + base64.StdEncoding.EncodeToString(key),
		public: prefixPublic + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)),
	}
}

// makeSigningSecret makes a new secret of a kind.
func makeSigningSecret(kind string) (signing, error) {
	if kind == KindEd25519 {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return signing{}, err
		}
		return fromPrivate(key), nil
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return signing{kind: KindHMAC, text: prefixHMAC + base64.StdEncoding.EncodeToString(raw)}, nil
}
