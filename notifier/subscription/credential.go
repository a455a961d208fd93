package subscription

import (
	"crypto/tls"
	"strings"

	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/schemas"
)

func (c *checker) credential(spec *schemas.Subscription) {
	if spec.Secret != "" {
		if spec.Protocol != schemas.ProtocolHTTP {
			c.refuse("/secret", "use sinkcredential to log in at a broker", "only webhooks are signed")
		} else if _, err := standardwebhooks.ParseSigning(spec.Secret); err != nil {
			c.refuse("/secret", standardwebhooks.Hint, "%s", err)
		}
	}
	k := spec.SinkCredential
	if k == nil {
		return
	}
	for _, f := range []struct{ name, value string }{{"identifier", k.Identifier}, {"secret", k.Secret}, {"accesstoken", k.AccessToken}} {
		c.text("/sinkcredential/"+f.name, f.value, maxSecret)
	}
	missing := func(name, value string) {
		if value == "" {
			c.refuse("/sinkcredential/"+name, "", "is missing for credentialtype %s", k.CredentialType)
		}
	}
	surplus := func(name, value string) {
		if value != "" {
			c.refuse("/sinkcredential/"+name, "", "is not for credentialtype %s", k.CredentialType)
		}
	}
	switch k.CredentialType {
	case schemas.CredentialPlain:
		missing("identifier", k.Identifier)
		missing("secret", k.Secret)
		surplus("accesstoken", k.AccessToken)
	case schemas.CredentialAccessToken:
		missing("accesstoken", k.AccessToken)
		surplus("identifier", k.Identifier)
		surplus("secret", k.Secret)
		if strings.ContainsAny(k.AccessToken, " ,;") {
			c.refuse("/sinkcredential/accesstoken", "give the token alone, without Bearer", "is not a bearer token (RFC 6750, section 2.1)")
		}
	case schemas.CredentialCertificate:
		missing("certificate", k.Certificate)
		surplus("identifier", k.Identifier)
		surplus("secret", k.Secret)
		surplus("accesstoken", k.AccessToken)
	default:
		c.refuse("/sinkcredential/credentialtype", "PLAIN, ACCESSTOKEN or CERTIFICATE", "is %q", clip(k.CredentialType))
	}
	if k.Certificate == "" && k.Key == "" {
		return
	}
	if len(k.Certificate) > maxPEM || len(k.Key) > maxPEM {
		c.refuse("/sinkcredential/certificate", "", "certificate or key is over the limit of %d bytes", maxPEM)
	} else if strings.ContainsRune(k.Certificate+k.Key, 0) {
		c.refuse("/sinkcredential/certificate", "", "certificate or key has a NUL character")
	} else if _, err := tls.X509KeyPair([]byte(k.Certificate), []byte(k.Key)); err != nil {
		c.refuse("/sinkcredential/certificate", "certificate and key are both needed, in PEM", "certificate and key are not a pair")
	}
}
