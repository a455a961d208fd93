// Package ingest reads what registries post when somebody pushes or deletes an
// image: Docker Distribution, Harbor, Quay, GitHub packages, Azure's and
// Amazon's container registries.
//
// It guarantees that whatever is posted costs no more than its bytes, and that
// a reference it returns is one that a registry client accepts. It asks nobody
// anything: what a tag stands for now, the registry says.
package ingest
