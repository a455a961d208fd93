package schemas

import "embed"

// Files are the JSON Schemas of all events, each named TYPE.json, the AsyncAPI
// document asyncapi.json, and one example of each event under examples.
//
//go:generate go run ./internal/generate
//go:embed *.json examples/*.json
var Files embed.FS
