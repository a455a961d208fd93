package indexer

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/nats-io/nats.go"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// publish sends a message as a stranger would: with a plain NATS client.
func (r *rig) publish(t *testing.T, header nats.Header, data []byte) {
	t.Helper()
	js, err := r.nats.Dial().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(&nats.Msg{Subject: bus.SubjectManifests, Header: header, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// eventWith is a CloudEvent with the data, in structured mode.
func eventWith(t *testing.T, data []byte) []byte {
	t.Helper()
	e := cloudevents.NewEvent()
	e.SetID("1")
	e.SetSource("urn:test")
	e.SetType("com.example.pushed")
	if err := e.SetData(cloudevents.ApplicationJSON, json.RawMessage(data)); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every form a manifest may have on tocsin.manifests.
func TestMessageForms(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, alpineWith("musl", "1.2.4-r1"))
	srv := httptest.NewServer(serveBytes(layer))
	t.Cleanup(srv.Close)
	r := newPlace(t).newRig(t, nil).run(t)
	bare := func(name string) []byte {
		return fmt.Appendf(nil, `{"hash":%q,"layers":[{"hash":%q,"uri":%q,"headers":{}}]}`, digestOf([]byte(name)), digestOf(layer), srv.URL)
	}
	full := func(name string) []byte {
		return fmt.Appendf(nil, `{"manifest":%s,"names":[%q,"all"],"labels":{"form":%q}}`, bare(name), name, name)
	}
	binary := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"urn:test"}, "ce-type": {"com.example.pushed"}, "content-type": {"application/json"}}
	var base64 map[string]any
	if err := json.Unmarshal(eventWith(t, []byte(`{}`)), &base64); err != nil {
		t.Fatal(err)
	}
	delete(base64, "data")
	base64["data_base64"] = full("structured, base64")
	encoded, err := json.Marshal(base64)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]struct {
		header nats.Header
		data   []byte
		named  bool
	}{
		"bare":                      {nil, bare("bare"), false},
		"full":                      {nil, full("full"), true},
		"full, with content type":   {nats.Header{"Content-Type": {"application/json; charset=utf-8"}}, full("full, with content type"), true},
		"structured":                {nats.Header{"Content-Type": {"application/cloudevents+json; charset=UTF-8"}}, eventWith(t, full("structured")), true},
		"structured, unlabelled":    {nil, eventWith(t, full("structured, unlabelled")), true},
		"structured, bare":          {nil, eventWith(t, bare("structured, bare")), false},
		"structured, base64":        {nil, encoded, true},
		"binary":                    {binary, full("binary"), true},
		"binary, bare":              {binary, bare("binary, bare"), false},
		"binary, headers in caps":   {nats.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"urn:test"}, "Ce-Type": {"x"}}, full("binary, headers in caps"), true},
		"with white space about":    {nil, []byte("\n " + string(full("with white space about")) + "\n"), true},
		"with fields of the future": {nil, []byte(strings.Replace(string(full("with fields of the future")), "{", `{"next":{"a":1},`, 1)), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.publish(t, m.header, m.data)
			digest := digestOf([]byte(name))
			eventually(t, "the manifest is known", func() bool { _, err := r.Get(t.Context(), digest); return err == nil })
			img := r.wait(t, digest)
			if img.State != StateIndexed || img.Packages != 1 {
				t.Errorf("image is %s with %d packages: %s", img.State, img.Packages, img.Reason)
			}
			if m.named && (!slices.Equal(img.Names, []string{name, "all"}) || img.Labels["form"] != name) {
				t.Errorf("names %q, labels %q", img.Names, img.Labels)
			}
			if !m.named && len(img.Names)+len(img.Labels) > 0 {
				t.Errorf("names %q, labels %q; want none", img.Names, img.Labels)
			}
		})
	}
}

// What can't be understood is ended, kept with its reason, and announced.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	hostileMessages(t, r)
	eventually(t, "no message is left", func() bool {
		n, err := r.bus.Backlog(t.Context(), bus.StreamIntake, bus.SubjectManifests)
		return err == nil && n == 0
	})
	events := announced[schemas.JobRejected](t, r.pool, schemas.TypeJobRejected)
	for _, e := range events {
		if e.Kind != JobKind || e.Job == "" || e.Reason == "" || len(e.Payload) > 1024 || strings.Contains(e.Payload, "hunter2") {
			t.Errorf("announced %+v", e)
		}
	}
	if len(events) < 40 {
		t.Errorf("%d events", len(events))
	}
}

func hostileMessages(t *testing.T, r *rig) {
	digest := digestOf([]byte("x"))
	layer := func(field, value string) string {
		l := map[string]string{"hash": `"` + digest + `"`, "uri": `"https://example.com/blob"`, "headers": `{}`}
		l[field] = value
		return fmt.Sprintf(`{"hash":%q,"layers":[{"hash":%s,"uri":%s,"headers":%s}]}`, digest, l["hash"], l["uri"], l["headers"])
	}
	binary := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"urn:test"}, "ce-type": {"x"}}
	with := func(h nats.Header, k, v string) nats.Header {
		out := maps.Clone(h)
		if delete(out, k); v != "" {
			out[k] = []string{v}
		}
		return out
	}
	for name, m := range map[string]struct {
		header nats.Header
		data   string
		hint   string
	}{
		"empty":                 {nil, "", "empty"},
		"not JSON":              {nil, "<xml/>", "not JSON"},
		"cut off":               {nil, `{"image":"a`, "not JSON"},
		"two objects":           {nil, `{"image":"a/b:1"}{"image":"c/d:1"}`, "something follows"},
		"an array":              {nil, `[{"image":"a/b:1"}]`, "not JSON of the expected form"},
		"null":                  {nil, `null`, "needs"},
		"nothing in it":         {nil, `{}`, "needs"},
		"wrong type":            {nil, `{"image":17}`, "not JSON of the expected form"},
		"both":                  {nil, `{"image":"a/b:1","hash":"` + digest + `","layers":[]}`, "must be empty"},
		"both manifests":        {nil, `{"manifest":{},"hash":"` + digest + `"}`, "not both"},
		"deep":                  {nil, strings.Repeat(`{"manifest":`, 20000) + `1` + strings.Repeat(`}`, 20000), "not JSON"},
		"wrong digest":          {nil, `{"hash":"sha256:abc","layers":[]}`, "is not a digest"},
		"unknown algorithm":     {nil, `{"hash":"md5:d41d8cd98f00b204e9800998ecf8427e","layers":[]}`, "is not a digest"},
		"no layers":             {nil, `{"hash":"` + digest + `"}`, "manifest.layers: are missing"},
		"many layers":           {nil, `{"hash":"` + digest + `","layers":[` + strings.Repeat(`{},`, 1000) + `{}]}`, "more than 500"},
		"layer digest":          {nil, layer("hash", `"sha256:00"`), "layers[0].hash"},
		"file URI":              {nil, layer("uri", `"file:///etc/passwd"`), "neither an http nor an https URL"},
		"ftp URI":               {nil, layer("uri", `"ftp://example.com/x"`), "neither an http nor an https URL"},
		"no such blob":          {nil, layer("uri", `"tocsin-blob:`+digest+`"`), "has been uploaded"},
		"another blob":          {nil, layer("uri", `"tocsin-blob:`+digestOf(nil)+`"`), "another blob"},
		"blob outside":          {nil, layer("uri", `"tocsin-blob:../../etc/passwd"`), "another blob"},
		"metadata":              {nil, layer("uri", `"http://169.254.169.254/latest/"`), "cloud metadata"},
		"decimal address":       {nil, layer("uri", `"http://2852039166/"`), "unusual spelling"},
		"password in URI":       {nil, layer("uri", `"https://user:hunter2@example.com/x"`), "must not be in the URL"},
		"hop-by-hop header":     {nil, layer("headers", `{"Host":["internal"]}`), "may only be"},
		"header with line end":  {nil, layer("headers", `{"X-Split":["a\r\nHost: b"]}`), "control characters"},
		"large header":          {nil, layer("headers", `{"X-A":["`+strings.Repeat("a", 20000)+`"]}`), "more than 16384"},
		"many headers":          {nil, layer("headers", `{`+strings.TrimSuffix(repeat(20, `"X-%d":["a"],`), ",")+`}`), "more than 16"},
		"secret header":         {nil, `{"hash":"sha256:abc","layers":[{"headers":{"Authorization":["Bearer hunter2"]}}]}`, "is not a digest"},
		"secret in broken JSON": {nil, `{"layers":[{"headers":{"Authorization":["Bearer hunter2"]}}]`, "not JSON"},
		"other secret header":   {nil, `{"layers":[{"Headers":{"X-Api-Key":["hunter2"]}}]`, "not JSON"},
		"secret after JSON":     {nil, `{"image":"a/b:1"} {"headers":{"X-Api-Key":["hunter2"]}}`, "something follows"},
		"secret in text":        {nil, `{"image":"","names":"{\"headers\":{\"X-Api-Key\":[\"hunter2\"]}}"}`, "not JSON"},
		"not a reference":       {nil, `{"image":"UPPER/CASE:x y"}`, "is not a reference"},
		"local reference":       {nil, `{"image":"oci:/etc"}`, "command line"},
		"bad platform":          {nil, `{"image":"a/b:1","platforms":["x/y/z/w"]}`, "is not os/arch"},
		"many names":            {nil, `{"image":"a/b:1","names":[` + strings.Repeat(`"n",`, 70) + `"n"]}`, "more than 64"},
		"long name":             {nil, `{"image":"a/b:1","names":["` + strings.Repeat("n", 2000) + `"]}`, "names[0]"},
		"name with NUL":         {nil, `{"image":"a/b:1","names":["a\u0000b"]}`, "control characters"},
		"long label":            {nil, `{"image":"a/b:1","labels":{"a":"` + strings.Repeat("n", 2000) + `"}}`, "labels.a"},
		"empty label key":       {nil, `{"image":"a/b:1","labels":{"":"x"}}`, "key that is empty"},
		"event without data":    {nil, `{"specversion":"1.0","id":"1","source":"urn:x","type":"x"}`, "no data"},
		"event without id":      {nil, `{"specversion":"1.0","source":"urn:x","type":"x","data":{"image":"a/b:1"}}`, "not a CloudEvent"},
		"event of 2030":         {nil, `{"specversion":"9.0","id":"1","source":"urn:x","type":"x","data":{"image":"a/b:1"}}`, "not a CloudEvent"},
		"event of text":         {nil, `{"specversion":"1.0","id":"1","source":"urn:x","type":"x","datacontenttype":"text/plain","data":"hello"}`, "is not JSON"},
		"batch":                 {nats.Header{"content-type": {"application/cloudevents-batch+json"}}, `[]`, "batches"},
		"binary without type":   {with(binary, "ce-type", ""), `{"image":"a/b:2"}`, "ce-type is missing"},
		"binary of 2030":        {with(binary, "ce-specversion", "9"), `{"image":"a/b:3"}`, "version"},
		"binary of text":        {with(binary, "content-type", "text/plain"), `{"image":"a/b:4"}`, "is not JSON"},
		"binary garbage":        {binary, "\x00\xff\xfe", "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			// One after the other, each long after the one before: of many at a
			// time, most would be counted in one job.
			if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.job SET created_at = created_at - interval '1 hour' WHERE rejected`); err != nil {
				t.Fatal(err)
			}
			r.publish(t, m.header, []byte(m.data))
			key := digestOf(text.RedactMessage([]byte(m.data)))
			var job jobs.Job
			eventually(t, "the message is rejected", func() bool {
				list, err := r.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, State: jobs.Failed, Limit: jobs.MaxLimit})
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(list, func(j jobs.Job) bool {
					return j.Rejected && j.Key == key && strings.Contains(j.Reason, m.hint)
				})
				if i >= 0 {
					job = list[i]
				}
				return i >= 0
			})
			if strings.Contains(string(job.Payload)+job.Reason, "hunter2") {
				t.Errorf("the rejected job has the secret: %s: %s", job.Reason, job.Payload)
			}
		})
	}
}

func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}
