package targettest

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Received is one message as a consumer of a server got it.
type Received struct {
	ContentType string
	Headers     map[string]string
	Body        []byte
}

// Decode reads the message with the CloudEvents SDK, in whichever mode it is
// in; prefix is what the protocol puts before an attribute's name in binary
// mode.
func (r Received) Decode(prefix string) (*event.Event, error) {
	return binding.ToEvent(context.Background(), sdkMessage{r, prefix})
}

// sdkMessage shows a Received to the SDK as it asks for messages.
type sdkMessage struct {
	Received
	prefix string
}

func (m sdkMessage) ReadEncoding() binding.Encoding {
	if strings.HasPrefix(m.ContentType, "application/cloudevents+json") {
		return binding.EncodingStructured
	}
	if m.Headers[m.prefix+"specversion"] != "" {
		return binding.EncodingBinary
	}
	return binding.EncodingUnknown
}

func (m sdkMessage) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if m.ReadEncoding() != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, format.JSON, bytes.NewReader(m.Body))
}

func (m sdkMessage) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	if m.ReadEncoding() != binding.EncodingBinary {
		return binding.ErrNotBinary
	}
	version := spec.VS.Version(m.Headers[m.prefix+"specversion"])
	if version == nil {
		return binding.ErrUnknownEncoding
	}
	if m.ContentType != "" {
		if err := w.SetAttribute(version.AttributeFromKind(spec.DataContentType), m.ContentType); err != nil {
			return err
		}
	}
	for header, value := range m.Headers {
		name, ok := strings.CutPrefix(header, m.prefix)
		if !ok || name == "datacontenttype" {
			continue
		}
		var err error
		if a := version.Attribute(name); a != nil {
			err = w.SetAttribute(a, value)
		} else {
			err = w.SetExtension(name, value)
		}
		if err != nil {
			return err
		}
	}
	return w.SetData(io.NopCloser(bytes.NewReader(m.Body)))
}

func (sdkMessage) Finish(error) error { return nil }

// GetAttribute and GetExtension are binding.MessageMetadataReader, which the
// SDK asks for in binary mode.
func (m sdkMessage) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	version := spec.VS.Version(m.Headers[m.prefix+"specversion"])
	if version == nil {
		return nil, nil
	}
	a := version.AttributeFromKind(kind)
	if kind == spec.DataContentType {
		return a, m.ContentType
	}
	if v, ok := m.Headers[m.prefix+a.Name()]; ok {
		return a, v
	}
	return a, nil
}

func (m sdkMessage) GetExtension(name string) any {
	if v, ok := m.Headers[m.prefix+name]; ok {
		return v
	}
	return nil
}
