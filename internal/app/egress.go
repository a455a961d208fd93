package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"tocsin.dev/tocsin/internal/config"
)

// egress is how a part of this process reaches others: the authorities to trust,
// nil for the system's, and the proxy, nil for none. part is the part of the
// configuration that says so.
func egress(part, caFile string, proxyURL config.URL) (roots *x509.CertPool, proxy *url.URL, err error) {
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, nil, fmt.Errorf("%s.ca_file: %w", part, err)
		}
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, nil, fmt.Errorf("the system's certificate authorities: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%s.ca_file: %s has no certificate in PEM", part, caFile)
		}
	}
	if !proxyURL.Empty() {
		if proxy, err = url.Parse(proxyURL.Reveal()); err != nil {
			return nil, nil, fmt.Errorf("%s.proxy is not a URL", part)
		}
	}
	return roots, proxy, nil
}

// feedTransport carries the requests for feeds; nil for the default one, which
// knows the proxy of the environment.
func feedTransport(c config.Updaters) (http.RoundTripper, error) {
	roots, proxy, err := egress("updaters", c.CAFile, c.Proxy)
	if err != nil || roots == nil && proxy == nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if roots != nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return t, nil
}
