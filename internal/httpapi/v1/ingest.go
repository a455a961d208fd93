package v1

// Ingested is what became of a registry's message.
type Ingested struct {
	// Images are the references that jobs were made for.
	Images []string `json:"images" nullable:"false"`
	Jobs   []string `json:"jobs" nullable:"false"`
	// Deleted are the references that the registry has no more.
	Deleted []string `json:"deleted" nullable:"false"`
}
