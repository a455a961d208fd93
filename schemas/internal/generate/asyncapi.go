package main

import (
	"strings"

	"tocsin.dev/tocsin/schemas"
)

// asyncAPI describes the events as they appear on NATS and at webhooks
// (AsyncAPI 3.0.0).
func asyncAPI(d docs) object {
	channels, operations, messages := object{}, object{}, object{}
	for _, e := range events {
		tail := strings.TrimPrefix(e.typ, schemas.TypePrefix)
		messages[tail] = object{
			"name": e.typ, "title": e.typ, "summary": e.when, "contentType": "application/cloudevents+json",
			"payload": object{
				"type": "object", "required": []string{"specversion", "id", "source", "type", "data"},
				"properties": object{
					"specversion": object{"const": "1.0"}, "id": object{"type": "string", "format": "uuid"},
					"source": object{"type": "string", "format": "uri-reference"}, "type": object{"const": e.typ},
					"data": object{"$ref": e.typ + ".json"},
				},
			},
			"examples": []any{object{"payload": example(e)}},
		}
		channels[tail] = object{
			"address": "tocsin.events." + tail, "servers": []any{object{"$ref": "#/servers/nats"}},
			"messages": object{tail: object{"$ref": "#/components/messages/" + tail}},
		}
		operations["send."+tail] = object{
			"action": "send", "summary": e.when, "channel": object{"$ref": "#/channels/" + escapePointer(tail)},
		}
	}
	// Pings and the digests of single subscriptions are sent to those alone.
	delete(channels, "ping.v1")
	delete(operations, "send.ping.v1")
	refs := object{}
	for name := range messages {
		refs[name] = object{"$ref": "#/components/messages/" + escapePointer(name)}
	}
	channels["subscription"] = object{
		"title":       "The sink of a subscription",
		"description": "Whatever a subscription's filters let through, at its webhook or broker, as a CloudEvent.",
		"address":     nil, "messages": refs,
	}
	operations["deliver"] = object{
		"action": "send", "summary": "Deliver an event to a subscription", "channel": object{"$ref": "#/channels/subscription"},
	}
	return object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "Tocsin events", "version": "1",
			"description": "CloudEvents 1.0 in structured JSON. Extension attributes say what is needed to filter without opening the data: " + attributeNames() + ".",
			"license":     object{"name": "Apache-2.0"},
		},
		"defaultContentType": "application/cloudevents+json",
		"servers":            object{"nats": object{"host": "127.0.0.1:4222", "protocol": "nats", "description": "The embedded or configured NATS server"}},
		"channels":           channels, "operations": operations,
		"components": object{"messages": messages},
	}
}

func escapePointer(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }

// attributeNames lists the extension attributes and what they may be.
func attributeNames() string {
	var names []string
	for _, a := range schemas.Attributes {
		if a.Values != "" {
			names = append(names, a.Name+" ("+a.Values+")")
		} else {
			names = append(names, a.Name)
		}
	}
	return strings.Join(append(names, "traceparent"), ", ")
}
