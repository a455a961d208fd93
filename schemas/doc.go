// Package schemas is the vocabulary of Tocsin's wire: the Go types of every
// event's data, their JSON Schemas, the OpenAPI and AsyncAPI documents and
// golden examples. [Attributes] is the one table of the attributes that filters see.
//
// It guarantees that what it embeds is what the server answers under
// /schemas/. It decides nothing and imports no other package of Tocsin, so that
// the domain packages can share its types without importing one another.
package schemas
