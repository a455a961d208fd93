package schemas

import "embed"

// Files are the JSON Schemas of all events, each named TYPE.json, the AsyncAPI
// document asyncapi.json, the OpenAPI document openapi.json (made by package
// internal/httpapi), and one example of each event under examples.
//
//go:generate go run ./internal/generate
//go:embed *.json examples/*.json
var Files embed.FS
