package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"tocsin.dev/tocsin/delivery"
)

// message is a batch as HTTP carries it.
type message struct {
	id          string
	contentType string
	header      http.Header
	body        []byte
}

func (t *target) render(batch []delivery.Message) message {
	m := batch[0]
	switch t.mode {
	case delivery.Batched:
		return batched(batch)
	case delivery.Binary:
		return binary(m)
	case delivery.Clair:
		return clair(m, t.callback)
	}
	return message{id: m.EventID, contentType: event.ApplicationCloudEventsJSON, header: trace(m), body: m.Structured}
}

// trace carries the event's trace on as the header that tracers know.
func trace(m delivery.Message) http.Header {
	if p, ok := m.Event.Extensions()["traceparent"].(string); ok && p != "" {
		return http.Header{"Traceparent": {p}}
	}
	return nil
}

func batched(batch []delivery.Message) message {
	size := 2
	for _, m := range batch {
		size += len(m.Structured) + 1
	}
	body := bytes.NewBuffer(make([]byte, 0, size))
	sum := sha256.New()
	for i, m := range batch {
		body.WriteByte("[,"[min(i, 1)])
		body.Write(m.Structured)
		sum.Write([]byte(m.EventID + "\n"))
	}
	body.WriteByte(']')
	return message{
		id:          "batch_" + hex.EncodeToString(sum.Sum(nil))[:32],
		contentType: event.ApplicationCloudEventsBatchJSON,
		body:        body.Bytes(),
	}
}

// binary is the event's data with its attributes as ce- headers (CloudEvents
// HTTP binding 1.0.2, section 3.1).
func binary(m delivery.Message) message {
	e := m.Event
	h := trace(m)
	if h == nil {
		h = http.Header{}
	}
	set := func(name string, value string) {
		if value != "" {
			h[http.CanonicalHeaderKey("ce-"+name)] = []string{percent(value)}
		}
	}
	set("specversion", e.SpecVersion())
	set("id", e.ID())
	set("source", e.Source())
	set("type", e.Type())
	set("subject", e.Subject())
	set("dataschema", e.DataSchema())
	if at := e.Time(); !at.IsZero() {
		set("time", types.FormatTime(at))
	}
	for name, v := range e.Extensions() {
		if s, err := types.Format(v); err == nil {
			set(name, s)
		}
	}
	contentType := e.DataContentType()
	if contentType == "" {
		contentType = event.ApplicationJSON
	}
	return message{id: m.EventID, contentType: contentType, header: h, body: e.Data()}
}

// percent encodes what a header value must not hold: space, double quote,
// percent sign, and all outside of printable ASCII (section 3.1.3.2).
func percent(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	clean := true
	for i := range len(s) {
		clean = clean && plain(s[i])
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// clair is what Clair v4 posts: where to fetch the notification.
func clair(m delivery.Message, base string) message {
	return message{id: m.EventID, contentType: "application/json", body: delivery.ClairCallback(base, "", m.EventID)}
}
