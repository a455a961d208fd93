// Package v1 is the JSON of Tocsin's HTTP API under /api/v1: what the server
// answers and what the command line reads. Event data is not here but in
// package schemas, and events themselves are CloudEvents in structured JSON.
//
// The types hold no behaviour. Fields are only ever added; a client ignores
// those it does not know.
package v1

// Page is one page of a list. Next, when not empty, is the value of the
// "cursor" parameter that asks for the page after this one.
type Page[T any] struct {
	Items []T    `json:"items" doc:"The items of this page" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"Cursor of the page that follows; absent on the last page"`
}

// Paging asks for one page: at most Limit items after Cursor ("" for the first
// page).
type Paging struct {
	Cursor string
	Limit  int
}
