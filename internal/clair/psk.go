package clair

import (
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/go-jose/go-jose/v3/jwt"
)

// Issuers of Clair's own tokens.
const (
	intraservice = "clair-intraservice" // its services, always accepted
	fromNotifier = "clair-notifier"     // its webhooks
)

const (
	// leeway is how far clocks may be apart.
	leeway = 15 * time.Second
	// lifetime is how long before and after it was made a token of ours is valid.
	lifetime = time.Minute
)

// algorithms are those that Clair accepts.
var algorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}

// PSK verifies and signs the JSON Web Tokens of Clair's pre-shared key
// (auth.psk). It is safe for concurrent use.
type PSK struct {
	// Key is the shared key, already decoded from base64.
	Key []byte
	// Issuers are the accepted "iss" claims, beside Clair's own.
	Issuers []string
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

func (p *PSK) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

// Verify checks signature, issuer and times of a compact JWS (RFC 7515,
// RFC 7519). Its errors say what is wrong and hold no part of the token.
func (p *PSK) Verify(token string) error {
	t, err := jwt.ParseSigned(token)
	if err != nil || len(p.Key) == 0 {
		return errors.New("not a JSON Web Token")
	}
	for _, h := range t.Headers {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(h.Algorithm)) {
			return errors.New("token header: alg is none of HS256, HS384, HS512")
		}
		if _, ok := h.ExtraHeaders["crit"]; ok { // RFC 7515, section 4.1.11: none is understood here
			return errors.New("token header: critical extensions are not supported")
		}
	}
	var claims jwt.Claims
	if err := t.Claims(p.Key, &claims); err != nil {
		return errors.New("token signature does not verify, or its claims are no object")
	}
	if claims.Issuer != intraservice && !slices.Contains(p.Issuers, claims.Issuer) {
		return errors.New("token issuer is not accepted")
	}
	return claims.ValidateWithLeeway(jwt.Expected{Time: p.now()}, leeway)
}

// NotifierToken signs a token as Clair's notifier sends it with a webhook.
func (p *PSK) NotifierToken() (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: p.Key}, nil)
	if err != nil {
		return "", err
	}
	now := p.now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: fromNotifier, IssuedAt: jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now.Add(-lifetime)), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
	}).CompactSerialize()
}
