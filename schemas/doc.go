// Package schemas is the vocabulary of Tocsin's wire: the Go types of every
// event's data, their JSON Schemas, the OpenAPI and AsyncAPI documents and
// golden examples.
//
// It guarantees that what it embeds is what the server answers under
// /schemas/. It holds no behaviour and imports no other package of Tocsin, so
// that the domain packages can share its types without importing one another.
package schemas
