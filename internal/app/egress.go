package app

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"tocsin.dev/tocsin/internal/config"
)

// egress is how registries and layers are reached: the authorities to trust,
// nil for the system's, and the proxy, nil for none.
func egress(c config.Indexer) (roots *x509.CertPool, proxy *url.URL, err error) {
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("indexer.ca_file: %w", err)
		}
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, nil, fmt.Errorf("the system's certificate authorities: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("indexer.ca_file: %s has no certificate in PEM", c.CAFile)
		}
	}
	if !c.Proxy.Empty() {
		if proxy, err = url.Parse(c.Proxy.Reveal()); err != nil {
			return nil, nil, errors.New("indexer.proxy is not a URL")
		}
	}
	return roots, proxy, nil
}
