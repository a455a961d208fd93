package text_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"tocsin.dev/tocsin/internal/text"
)

func TestCutKeepsCharactersWhole(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "", 1: "a", 2: "a", 3: "aé", 4: "aé", 6: "aé", 7: "aé🔔", 8: "aé🔔b", 9: "aé🔔b", -1: ""} {
		if got := text.Cut("aé🔔b", n); got != want {
			t.Errorf("Cut to %d is %q, want %q", n, got, want)
		}
	}
	if got := text.Clip("aé🔔b", 4); got != "aé…" {
		t.Errorf("Clip is %q", got)
	}
	if got := text.Clip("aé", 3); got != "aé" {
		t.Errorf("Clip of a short text is %q", got)
	}
}

func TestCleanAndCutAlwaysStore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		n := rapid.IntRange(0, len(s)+4).Draw(t, "n")
		got := text.Cut(text.Clean(s), n)
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) || len(got) > n {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`dial "postgres://u:hunter2@db/x": refused`:                                       `dial "postgres://[redacted]@db/x": refused`,
		`parse "postgres://u:hun/ter2@db:5432/x": invalid port ":hun" after host`:         `parse "postgres://[redacted]@db:5432/x": invalid port ":hun" after host`,
		"nats://hunter2@a:4222,nats://u:hunter2@b:4222":                                   "nats://[redacted]@a:4222,nats://[redacted]@b:4222",
		"Get https://u:hunter2@feed/all.json: 403":                                        "Get https://[redacted]@feed/all.json: 403",
		"Get https://h:8443/@scope/pkg?page=2&size=100: 404":                              "Get https://h:8443/@scope/pkg?page=2&size=100: 404",
		"https://b.s3/l?X-Amz-Algorithm=AWS4&X-Amz-Signature=hunter2":                     "https://b.s3/l?X-Amz-Algorithm=[redacted]&X-Amz-Signature=[redacted]",
		`"https://b.s3/l?a=1\u0026X-Amz-Signature=hunter2"`:                               `"https://b.s3/l?a=1\u0026X-Amz-Signature=[redacted]"`,
		"https://acc.blob/l?sv=2022&sig=hunter2":                                          "https://acc.blob/l?sv=2022&sig=[redacted]",
		"https://f/?x=" + strings.Repeat("h", 40):                                         "https://f/?x=[redacted]",
		"https://f/?api_key=hunter2#there":                                                "https://f/?api_key=[redacted]#there",
		"host=db user=u password='hunter 2' dbname=x":                                     "host=db user=u password=[redacted] dbname=x",
		"host=db password=hunter2":                                                        "host=db password=[redacted]",
		`{"user":"u","password":"hunter2"}`:                                               `{"user":"u","password":"[redacted]"}`,
		`"{\"password\":\"hunter2\"}"`:                                                    `"{\"password\":\"[redacted]\"}"`,
		"Authorization: Token hunter2\nHost: h":                                           "Authorization: [redacted]\nHost: h",
		"sent Bearer hunter2":                                                             "sent Bearer [redacted]",
		"the registry wants basic authentication":                                         "the registry wants basic authentication",
		"signed with whsec_aHVudGVyMmh1bnRlcjI=":                                          "signed with [redacted]",
		"token tocsin_hunter2hunter2hunter2hunter2hunter2":                                "token [redacted]",
		"secrets.keys[0]: not base64":                                                     "secrets.keys[0]: not base64",
		"lookup osv-vulnerabilities.storage.googleapis.com: no such host (retry in 2m0s)": "lookup osv-vulnerabilities.storage.googleapis.com: no such host (retry in 2m0s)",
	} {
		got := text.Redact(in)
		if got != want {
			t.Errorf("%s\nbecame %s\nwant   %s", in, got, want)
		}
		if again := text.Redact(got); again != got {
			t.Errorf("%s\nbecame %s the second time", got, again)
		}
	}
}

func TestRedactURLCanBeReadBack(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"postgres://u:hunter2@db/t?sslpassword=hunter2": "postgres://u:xxxxx@db/t?sslpassword=xxxxx",
		"nats://hunter2@a:4222":                         "nats://xxxxx@a:4222",
		"postgres://u@db/t":                             "postgres://u@db/t",
		"https://hunter2@feed/x?sig=hunter2&a=1":        "https://xxxxx@feed/x?a=1&sig=xxxxx",
		"https://feed/?b=2&a=1":                         "https://feed/?b=2&a=1",
		"https://u:hun%ter2@feed/":                      "[redacted]",
	} {
		if got := text.RedactURL(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestRedactMessage(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"manifest":{"hash":"x","layers":[{"uri":"https://b.s3/l?X-Amz-Algorithm=A\u0026X-Amz-Signature=hunter2"}]}}`,
		`{"manifest":{"hash":"x","layers":[{"uri":"https://u:hunter2@b/l","headers":{"Authorization":["hunter2"]}}]}}`,
		`{"headers":"hunter2","data_base64":"hunter2","password":"hunter2","tokens":["hunter2"]}`,
		`{"data":"{\"headers\":{\"a\":\"hunter2\"}}"}`,
		`{"note":"Basic hunter"}`[:21] + `2"}`,
		`not JSON: https://b/l?X-Amz-Algorithm=A\u0026X-Amz-Signature=hunter2`,
		`not JSON "headers": {"a": "hunter2"}`,
	} {
		if out := string(text.RedactMessage([]byte(in))); strings.Contains(out, "hunter2") {
			t.Errorf("%s\nbecame %s", in, out)
		}
	}
}

// What nobody can understand is kept shortened, and hiding its secrets takes no
// time to speak of, however long and strange it is.
func TestRedactMessageIsCheap(t *testing.T) {
	t.Parallel()
	hostile := `a="b://u:p@h?x=y&key=bearer basic cookie: tocsin_ `
	for name, message := range map[string]string{
		"text":           strings.Repeat(hostile, 1<<20/len(hostile)),
		"one string":     `"` + strings.Repeat(`a=b\u003d://u:p@h?x=y&key=bearer `, 1<<20/40) + `"`,
		"broken JSON":    `{"a":[` + strings.Repeat(`"password=hunter2",`, 1<<20/20),
		"no characters":  strings.Repeat("\xff\x00=", 1<<18),
		"secret at last": strings.Repeat("x", 1<<20) + " password=hunter2",
	} {
		begin := time.Now()
		out := text.RedactMessage([]byte(message))
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if len(out) > 64<<10 || strings.Contains(string(out), "hunter2") {
			t.Errorf("%s: %d bytes kept: %.100s", name, len(out), out)
		}
	}
}

// FuzzRedact looks for input that ends neither redaction nor its repetition.
func FuzzRedact(f *testing.F) {
	f.Add("postgres://u:p@h/?a=b&password=c")
	f.Add(`{"a":"\u0026sig=x"}`)
	f.Fuzz(func(t *testing.T, s string) {
		got := text.Redact(s)
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q became invalid: %q", s, got)
		}
		_ = text.RedactMessage([]byte(s))
		_ = text.RedactURL(s)
	})
}
