package updater

import (
	"net/http"
	"net/url"
	"strings"
)

// indexBesideData makes OSV's list of ecosystems be asked for under the path of
// the configured URL, where the data are, before the root of its host, where
// claircore looks: a mirror seldom has a host to itself.
func indexBesideData(settings *reader, next http.RoundTripper) http.RoundTripper {
	u, err := url.Parse(settings.text("url"))
	if err != nil || strings.Trim(u.Path, "/") == "" {
		return next
	}
	return &besideData{next: next, host: u.Host, index: u.JoinPath("ecosystems.txt")}
}

type besideData struct {
	next  http.RoundTripper
	host  string
	index *url.URL
}

// RoundTrip implements [http.RoundTripper].
func (b *besideData) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/ecosystems.txt" || req.URL.Host != b.host {
		return b.next.RoundTrip(req)
	}
	beside := req.Clone(req.Context())
	beside.URL = b.index
	res, err := b.next.RoundTrip(beside)
	if err != nil || res.StatusCode != http.StatusNotFound {
		return res, err
	}
	res.Body.Close()
	return b.next.RoundTrip(req)
}
