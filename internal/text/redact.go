package text

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// Redacted stands for a secret.
const Redacted = "[redacted]"

// hidden stands for a secret inside a URL that is to be read back.
const hidden = "xxxxx"

// longestPlain is the length of a URL's query value beyond which it counts as a
// secret whatever its name: signatures and tokens are longer, dates are not.
const longestPlain = 32

// secretNames are parts of names whose values are secret.
var secretNames = []string{
	"password", "passwd", "passphrase", "secret", "token", "apikey", "api_key", "api-key", "accesskey", "access_key",
	"private_key", "authorization", "credential", "cookie", "signature",
}

// secretParameters are names of query parameters whose values are secret; as
// names of other things they are common.
var secretParameters = []string{"key", "sig", "auth", "code", "pass", "pwd", "session", "sid", "subscription-key"}

// Sensitive reports whether the name of a key, a header or an attribute says that
// its value is a secret.
func Sensitive(name string) bool {
	name = strings.ToLower(name)
	for _, w := range secretNames {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

func sensitiveParameter(name string) bool {
	name = strings.ToLower(name)
	if Sensitive(name) || strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-goog-") {
		return true
	}
	for _, w := range secretParameters {
		if name == w {
			return true
		}
	}
	return false
}

var (
	// anyURL is a URL as far as it goes in text, which may be quoted or JSON.
	anyURL  = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>\\]+`)
	nextURL = regexp.MustCompile(`,[A-Za-z][A-Za-z0-9+.-]*://`)
	// login is the user and password of a URL. A password may hold characters that
	// do not belong there, such as / and @.
	login     = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@`)
	oddLogin  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#:]*:([^@]*)@`)
	port      = regexp.MustCompile(`^[0-9]{1,5}(/|$)`)
	parameter = regexp.MustCompile(`([?&;])([^=&;?#]*)=([^&;#]*)`)
	// assigned is name=value outside of URLs, as in connection strings, and what
	// follows an escaped & in a URL.
	assigned = regexp.MustCompile(`([A-Za-z0-9_.-]+)(\s?=\s?|%3[dD]|\\u003[dD])('[^']*'|"[^"]*"|[^\s&;,'"\\<>)]+)`)
	// member is a member of a JSON object, perhaps inside a JSON string.
	member = regexp.MustCompile(`(\\*")([A-Za-z0-9_.-]+)(\\*"\s*:\s*\\*")([^"\\]*)`)
	// header is a line of an HTTP header.
	header = regexp.MustCompile(`(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)(:\s*)[^\r\n"]+`)
	bearer = regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)([A-Za-z0-9+/=._~-]+)`)
	scheme = regexp.MustCompile(`(?i)bearer|basic`)
	word   = regexp.MustCompile(`^[a-z.-]{1,20}$|^[A-Z][a-z.-]{1,20}$`)
	// known are tokens that are recognised by their form: Tocsin's own, webhook
	// signing secrets, GitHub's, AWS' and JSON web tokens.
	known = regexp.MustCompile(`\b(?:tocsin_[A-Za-z0-9_-]{20,}|wh(?:sec|sk)_[A-Za-z0-9+/=_-]{8,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|A(?:KIA|SIA)[A-Z0-9]{12,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*)`)
)

// Redact replaces what looks like a secret in text: logins in URLs, values of
// parameters, members and settings with a telling name, authorization headers and
// tokens of a known form. It is for text that quotes other people's errors,
// addresses and messages.
func Redact(s string) string {
	// An expression is tried only on text that has what it can't do without: that
	// makes most text cheap, whatever its length.
	if strings.Contains(s, "://") {
		s = anyURL.ReplaceAllStringFunc(s, redactURLs)
	}
	if !mayHaveNames(s) {
		return known.ReplaceAllString(s, Redacted)
	}
	s = replace(header, s, func(m []string) string { return m[1] + m[2] + Redacted })
	s = replace(assigned, s, func(m []string) string {
		if !strings.HasPrefix(m[3], Redacted) && sensitiveSetting(m[1]) {
			return m[1] + m[2] + Redacted
		}
		return m[0]
	})
	s = replace(member, s, func(m []string) string {
		if m[4] != "" && Sensitive(m[2]) {
			return m[1] + m[2] + m[3] + Redacted
		}
		return m[0]
	})
	s = replace(bearer, s, func(m []string) string {
		if word.MatchString(m[3]) {
			return m[0] // "basic authentication"
		}
		return m[1] + m[2] + Redacted
	})
	return known.ReplaceAllString(s, Redacted)
}

// mayHaveNames says whether there is anything in the text that names are told from
// their values by, or a word before a credential.
func mayHaveNames(s string) bool {
	return strings.ContainsAny(s, "=:") || strings.Contains(s, "%3") || strings.Contains(s, "u003") || scheme.MatchString(s)
}

// sensitiveSetting is like [Sensitive] for a name before an equals sign, which
// may follow an escaped & in a URL.
func sensitiveSetting(name string) bool {
	name = strings.ToLower(name)
	if at := strings.Index(name, "u0026"); at >= 0 {
		return sensitiveParameter(name[at+len("u0026"):])
	}
	return Sensitive(name) || strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-goog-") || name == "sig"
}

// redactURLs replaces the secrets in one URL in text, or in several with commas
// between them.
func redactURLs(s string) string {
	var b strings.Builder
	begin := 0
	for _, at := range nextURL.FindAllStringIndex(s, -1) {
		b.WriteString(redactURL(s[begin:at[0]]) + ",")
		begin = at[0] + 1
	}
	b.WriteString(redactURL(s[begin:]))
	return b.String()
}

func redactURL(s string) string {
	if at := login.FindStringSubmatchIndex(s); at != nil {
		s = s[:at[3]] + Redacted + "@" + s[at[1]:]
	} else if at := oddLogin.FindStringSubmatchIndex(s); at != nil && !port.MatchString(s[at[4]:at[5]]) {
		s = s[:at[3]] + Redacted + "@" + s[at[1]:]
	}
	return replace(parameter, s, func(m []string) string {
		if sensitiveParameter(m[2]) || len(m[3]) > longestPlain {
			return m[1] + m[2] + "=" + Redacted
		}
		return m[0]
	})
}

// replace is ReplaceAllStringFunc with submatches.
func replace(re *regexp.Regexp, s string, f func(m []string) string) string {
	all := re.FindAllStringSubmatchIndex(s, -1)
	if all == nil {
		return s
	}
	var b strings.Builder
	end := 0
	for _, at := range all {
		m := make([]string, len(at)/2)
		for i := range m {
			if at[2*i] >= 0 {
				m[i] = s[at[2*i]:at[2*i+1]]
			}
		}
		b.WriteString(s[end:at[0]])
		b.WriteString(f(m))
		end = at[1]
	}
	b.WriteString(s[end:])
	return b.String()
}

// RedactURL replaces the password of one URL, and the values of parameters with
// a telling name, so that what remains is still a URL. A user without a password
// stays unless the scheme knows tokens in its place, as NATS and HTTP do.
func RedactURL(s string) string {
	p, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return Redacted
	}
	if p.User != nil {
		if _, ok := p.User.Password(); ok {
			p.User = url.UserPassword(p.User.Username(), hidden)
		} else {
			switch p.Scheme {
			case "nats", "tls", "ws", "wss", "http", "https":
				p.User = url.User(hidden)
			}
		}
	}
	q := p.Query()
	for k := range q {
		if sensitiveParameter(k) {
			q.Set(k, hidden)
			p.RawQuery = q.Encode()
		}
	}
	return p.String()
}

var (
	headersName = regexp.MustCompile(`(?i)headers`)
	credential  = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9+/=._~-]+`)
	query       = regexp.MustCompile(`(https?://[^\s"?\\]*)\?[^\s"]*`)
)

// RedactMessage is a stricter [Redact] for a message that is kept because nobody
// could understand it: of JSON, each string is redacted in its decoded form, the
// values in everything called headers go, and so do the queries of URLs. Where a
// message is not JSON, nobody knows where its headers end: all that follows the
// word is cut, and of the rest only the beginning is kept.
//
// It takes time in proportion to the message, and little of it: of what is not
// JSON, and of each string of what is, the first 16 KiB.
func RedactMessage(data []byte) []byte {
	var v any
	if json.Unmarshal(data, &v) == nil {
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if e.Encode(redactValue(v)) == nil {
			return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
		}
	}
	s := Clip(string(data), mostKept)
	if at := headersName.FindStringIndex(s); at != nil {
		s = s[:at[1]] + " " + Redacted
	}
	return []byte(redactStrictly(s))
}

// mostKept is how much of a text is kept that nobody understood, in bytes.
const mostKept = 16 << 10

func redactStrictly(s string) string {
	s = Clip(s, mostKept)
	s = credential.ReplaceAllString(s, "$1 "+Redacted)
	s = query.ReplaceAllString(s, "$1?"+Redacted)
	return Redact(s)
}

// redactValue redacts decoded JSON in place.
func redactValue(v any) any {
	switch v := v.(type) {
	case string:
		if at := headersName.FindStringIndex(v); at != nil && strings.Contains(v, "{") {
			return v[:at[1]] + " " + Redacted // a message encoded once more
		}
		return redactStrictly(v)
	case map[string]any:
		for k, inner := range v {
			h, isMap := inner.(map[string]any)
			switch {
			case strings.EqualFold(k, "headers") && isMap:
				for name := range h {
					h[name] = Redacted
				}
			case strings.EqualFold(k, "headers"), k == "data_base64": // of a CloudEvent
				v[k] = Redacted
			case Sensitive(k) && !isMap:
				v[k] = Redacted
			default:
				v[k] = redactValue(inner)
			}
		}
	case []any:
		for i := range v {
			v[i] = redactValue(v[i])
		}
	}
	return v
}

// RedactMap copies a mapping without what looks secret by its name or its text.
func RedactMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		if Sensitive(k) {
			out[k] = Redacted
			continue
		}
		out[k] = redactSetting(v)
	}
	return out
}

func redactSetting(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return RedactMap(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = redactSetting(e)
		}
		return out
	case string:
		if strings.Contains(v, "://") {
			return RedactURL(v)
		}
	}
	return v
}
