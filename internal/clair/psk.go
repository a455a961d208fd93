package clair

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
)

// intraservice is the issuer that Clair's own services use; it is always
// accepted.
const intraservice = "clair-intraservice"

// leeway is how far clocks may be apart.
const leeway = 15 * time.Second

// PSK verifies the JSON Web Tokens that Clair's clients sign with a pre-shared
// key (auth.psk): HS256, HS384 or HS512. It is safe for concurrent use.
type PSK struct {
	// Key is the shared key, already decoded from base64.
	Key []byte
	// Issuers are the accepted "iss" claims, beside Clair's own.
	Issuers []string
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

// Verify checks signature, issuer and times of a compact JWS (RFC 7515,
// RFC 7519). Its errors say what is wrong and hold no part of the token.
func (p *PSK) Verify(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not a JSON Web Token")
	}
	var header struct {
		Alg  string   `json:"alg"`
		Crit []string `json:"crit"`
	}
	if err := decodePart(parts[0], &header); err != nil {
		return fmt.Errorf("token header: %w", err)
	}
	if header.Crit != nil { // RFC 7515, section 4.1.11: none is understood here
		return errors.New("token header: critical extensions are not supported")
	}
	var alg func() hash.Hash
	switch header.Alg {
	case "HS256":
		alg = sha256.New
	case "HS384":
		alg = sha512.New384
	case "HS512":
		alg = sha512.New
	default:
		return errors.New("token header: alg is none of HS256, HS384, HS512")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return errors.New("token signature is not base64url")
	}
	mac := hmac.New(alg, p.Key)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if len(p.Key) == 0 || !hmac.Equal(sig, mac.Sum(nil)) {
		return errors.New("token signature does not verify")
	}
	var claims struct {
		Issuer    string   `json:"iss"`
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
		IssuedAt  *float64 `json:"iat"`
	}
	if err := decodePart(parts[1], &claims); err != nil {
		return fmt.Errorf("token claims: %w", err)
	}
	if claims.Issuer != intraservice && !slices.Contains(p.Issuers, claims.Issuer) {
		return errors.New("token issuer is not accepted")
	}
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	at, slack := float64(now().UnixNano())/1e9, leeway.Seconds()
	switch {
	case claims.Expires != nil && at > *claims.Expires+slack:
		return errors.New("token has expired")
	case claims.NotBefore != nil && at < *claims.NotBefore-slack:
		return errors.New("token is not valid yet")
	case claims.IssuedAt != nil && at < *claims.IssuedAt-slack:
		return errors.New("token was issued in the future")
	}
	return nil
}

func decodePart(s string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return errors.New("not base64url")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return errors.New("not a JSON object")
	}
	return nil
}
