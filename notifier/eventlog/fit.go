package eventlog

import (
	"encoding/json"
	"slices"

	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// fit marshals the data in at most limit bytes: of its lists, each with the
// most severe first, it keeps the most severe findings of all, and says so if
// it cut any. If it has to cut, it
// also shortens every description that takes more than an eighth of the limit.
func fit(data schemas.VulnerabilitiesChanged, limit int) ([]byte, error) {
	data = complete(data)
	whole, err := json.Marshal(data)
	if err != nil || len(whole) <= limit {
		return whole, err
	}
	data.Truncated = true
	for i := range data.Added {
		shorten(&data.Added[i], limit/8)
	}
	for i := range data.Revised {
		shorten(&data.Revised[i].Finding, limit/8)
	}
	for i := range data.Removed {
		shorten(&data.Removed[i], limit/8)
	}
	frame := data
	frame.Added, frame.Revised, frame.Removed = data.Added[:0], data.Revised[:0], data.Removed[:0]
	text, err := json.Marshal(frame)
	if err != nil {
		return nil, err
	}
	room := limit - len(text)
	var kept [3]int
	for _, list := range bySeverity(data) {
		var size int
		switch list {
		case 0:
			size, err = sizeOf(data.Added[kept[list]])
		case 1:
			size, err = sizeOf(data.Revised[kept[list]])
		default:
			size, err = sizeOf(data.Removed[kept[list]])
		}
		if err != nil {
			return nil, err
		}
		if room -= size; room < 0 {
			break
		}
		kept[list]++
	}
	data.Added, data.Revised, data.Removed = data.Added[:kept[0]], data.Revised[:kept[1]], data.Removed[:kept[2]]
	return json.Marshal(data)
}

// bySeverity says from which list, 0 added, 1 revised, 2 removed, to take the
// next finding so that the most severe come first.
func bySeverity(d schemas.VulnerabilitiesChanged) []int {
	type place struct{ list, rank int }
	places := make([]place, 0, len(d.Added)+len(d.Revised)+len(d.Removed))
	for _, f := range d.Added {
		places = append(places, place{0, schemas.SeverityRank(f.NormalizedSeverity)})
	}
	for _, f := range d.Revised {
		places = append(places, place{1, schemas.SeverityRank(f.NormalizedSeverity)})
	}
	for _, f := range d.Removed {
		places = append(places, place{2, schemas.SeverityRank(f.NormalizedSeverity)})
	}
	slices.SortStableFunc(places, func(a, b place) int { return b.rank - a.rank })
	lists := make([]int, len(places))
	for i, p := range places {
		lists[i] = p.list
	}
	return lists
}

func shorten(f *schemas.Finding, most int) {
	f.Description = text.Clip(f.Description, most)
}

// sizeOf is the bytes that v takes in a list, its comma included.
func sizeOf(v any) (int, error) {
	text, err := json.Marshal(v)
	return len(text) + 1, err
}

// complete copies the lists and makes empty ones of those that are absent, as
// the schemas ask.
func complete(d schemas.VulnerabilitiesChanged) schemas.VulnerabilitiesChanged {
	d.Manifest = filled(d.Manifest)
	d.Added, d.Removed = findings(d.Added), findings(d.Removed)
	revised := make([]schemas.RevisedFinding, len(d.Revised))
	for i, f := range d.Revised {
		f.Finding = finding(f.Finding)
		if f.Changes == nil {
			f.Changes = []schemas.FieldChange{}
		}
		revised[i] = f
	}
	d.Revised = revised
	return d
}

func findings(list []schemas.Finding) []schemas.Finding {
	out := make([]schemas.Finding, len(list))
	for i, f := range list {
		out[i] = finding(f)
	}
	return out
}

func finding(f schemas.Finding) schemas.Finding {
	if f.Aliases == nil {
		f.Aliases = []string{}
	}
	if f.Links == nil {
		f.Links = []string{}
	}
	return f
}

// filled makes empty lists of absent ones, as the schemas ask.
func filled(m schemas.Manifest) schemas.Manifest {
	if m.Names == nil {
		m.Names = []string{}
	}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	return m
}
