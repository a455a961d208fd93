package app

// refusal is an error that an API knows by its kind. It reads as the package
// wrote it that returned it.
type refusal struct {
	kind, err error
}

func refused(kind, err error) error { return &refusal{kind, err} }

func (r *refusal) Error() string {
	return r.err.Error()
}

func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }
