package filter

import "slices"

// Texts are an attribute's values in their canonical string form; none where the
// event does not have it. Only image may have several: all names of the image.
func (e *Event) Texts(name string) []string {
	v, ok := e.Text(name)
	if !ok {
		return nil
	}
	if name == "image" && len(e.Names) > 1 {
		return slices.Concat([]string{v}, slices.DeleteFunc(slices.Clone(e.Names), func(n string) bool { return n == v }))
	}
	return []string{v}
}

// under calls f with the event, and with the event under each other name of its
// image, until f returns true; it reports whether it did.
func (e *Event) under(f func(*Event) bool) bool {
	if f(e) {
		return true
	}
	if e.Extensions.Image == nil || len(e.Names) < 2 {
		return false
	}
	for _, name := range e.Texts("image")[1:] {
		other := *e
		other.Extensions.Image = &name
		other.cloud, other.attrs = nil, nil
		if f(&other) {
			return true
		}
		e.decoded = other.decoded
	}
	return false
}
