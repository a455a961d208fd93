package ingest

import (
	"encoding/json"
	"errors"
	"strings"
)

var parsers = map[string]func([]byte) ([]Change, error){
	"distribution": distribution, "harbor": harbor, "quay": quay, "github": github, "acr": acr, "ecr": ecr,
}

// isImage tells manifests and indexes from layers and configurations. Senders
// that don't say count as right.
func isImage(mediaType string) bool {
	return mediaType == "" || strings.Contains(mediaType, "manifest") || strings.Contains(mediaType, "image.index")
}

// target is an image in a message of Docker Distribution, and of Azure's
// registry, which took over its form.
type target struct {
	MediaType  string `json:"mediaType"`
	Digest     string `json:"digest"`
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
}

type registryEvent struct {
	Action  string `json:"action"`
	Target  target `json:"target"`
	Request struct {
		Host string `json:"host"`
	} `json:"request"`
}

func (e *registryEvent) changes(pushed, deleted []string) []Change {
	c := Change{Repository: e.Request.Host + "/" + e.Target.Repository, Tag: e.Target.Tag, Digest: e.Target.Digest}
	for _, a := range pushed {
		if strings.EqualFold(e.Action, a) && isImage(e.Target.MediaType) {
			return []Change{c}
		}
	}
	for _, a := range deleted {
		if strings.EqualFold(e.Action, a) && isImage(e.Target.MediaType) {
			c.Deleted = true
			return []Change{c}
		}
	}
	return nil
}

// distribution reads the envelope of the CNCF's Distribution: events of pulls,
// pushes, mounts and deletions, of layers too.
func distribution(body []byte) ([]Change, error) {
	var envelope struct {
		Events []registryEvent `json:"events"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	if envelope.Events == nil {
		return nil, errors.New("has no events")
	}
	var out []Change
	for i := range envelope.Events {
		e := &envelope.Events[i]
		if e.Target.Tag == "" && e.Target.Digest == "" && e.Action == "delete" {
			continue // a whole repository: its images are not named
		}
		out = append(out, e.changes([]string{"push"}, []string{"delete"})...)
	}
	return out, nil
}

func harbor(body []byte) ([]Change, error) {
	var message struct {
		Type string `json:"type"`
		Data *struct {
			Resources []struct {
				Digest string `json:"digest"`
				Tag    string `json:"tag"`
				URL    string `json:"resource_url"`
			} `json:"resources"`
		} `json:"event_data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, err
	}
	if message.Type == "" {
		return nil, errors.New("has no type")
	}
	var deleted bool
	switch message.Type {
	case "PUSH_ARTIFACT", "TAG_ARTIFACT", "REPLICATION":
	case "DELETE_ARTIFACT", "UNTAG_ARTIFACT":
		deleted = true
	default:
		return nil, nil // scans, quotas, pulls
	}
	if message.Data == nil {
		return nil, errors.New("has no event_data")
	}
	var out []Change
	for _, r := range message.Data.Resources {
		repository, _, _ := strings.Cut(r.URL, "@")
		if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
			repository = repository[:i]
		}
		tag := r.Tag
		if strings.Contains(tag, ":") { // of an untagged artifact: its digest
			tag = ""
		}
		out = append(out, Change{Repository: repository, Tag: tag, Digest: r.Digest, Deleted: deleted})
	}
	return out, nil
}

// quay reads a notification of a push to a repository, which names tags alone.
func quay(body []byte) ([]Change, error) {
	var message struct {
		URL  string          `json:"docker_url"`
		Tags json.RawMessage `json:"updated_tags"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, err
	}
	if message.URL == "" {
		return nil, errors.New("has no docker_url")
	}
	if message.Tags == nil {
		return nil, nil // a notification about something else
	}
	var tags []string
	if err := json.Unmarshal(message.Tags, &tags); err != nil {
		var images map[string]any // of older versions: the image by tag
		if err := json.Unmarshal(message.Tags, &images); err != nil {
			return nil, err
		}
		for t := range images {
			tags = append(tags, t)
		}
	}
	var out []Change
	for _, t := range tags {
		out = append(out, Change{Repository: message.URL, Tag: t})
	}
	return out, nil
}

// github reads the events registry_package and package.
func github(body []byte) ([]Change, error) {
	type pkg struct {
		Type      string `json:"package_type"`
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		Version   *struct {
			Version   string `json:"version"`
			Container struct {
				Tag struct {
					Name   string `json:"name"`
					Digest string `json:"digest"`
				} `json:"tag"`
			} `json:"container_metadata"`
		} `json:"package_version"`
	}
	var message struct {
		Action   string `json:"action"`
		Package  *pkg   `json:"package"`
		Registry *pkg   `json:"registry_package"`
		Zen      string `json:"zen"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, err
	}
	p := message.Registry
	if p == nil {
		p = message.Package
	}
	switch {
	case message.Zen != "": // the ping of a new webhook
		return nil, nil
	case p == nil:
		return nil, errors.New("has no registry_package and no package")
	case !strings.EqualFold(p.Type, "container") && !strings.EqualFold(p.Ecosystem, "container"), p.Version == nil,
		message.Action != "published" && message.Action != "updated":
		return nil, nil
	}
	c := Change{Repository: strings.ToLower("ghcr.io/" + p.Namespace + "/" + p.Name), Tag: p.Version.Container.Tag.Name, Digest: p.Version.Container.Tag.Digest}
	if c.Digest == "" && strings.HasPrefix(p.Version.Version, "sha256:") {
		c.Digest = p.Version.Version
	}
	return []Change{c}, nil
}

// acr reads a webhook of Azure's registry, and its events on Event Grid as
// CloudEvents or in Event Grid's own form.
func acr(body []byte) ([]Change, error) {
	type wrapped struct {
		Data *registryEvent `json:"data"`
		registryEvent
	}
	var list []wrapped
	if err := json.Unmarshal(body, &list); err != nil {
		var one wrapped
		if err := json.Unmarshal(body, &one); err != nil {
			return nil, err
		}
		list = []wrapped{one}
	}
	var out []Change
	for i := range list {
		e := list[i].Data
		if e == nil {
			e = &list[i].registryEvent
		}
		if e.Action == "" {
			return nil, errors.New("has no action")
		}
		out = append(out, e.changes([]string{"push", "import"}, []string{"delete"})...)
	}
	return out, nil
}

// ecr reads an event of Amazon EventBridge, bare or as the data of a CloudEvent.
func ecr(body []byte) ([]Change, error) {
	type detail struct {
		Result     string `json:"result"`
		Repository string `json:"repository-name"`
		Digest     string `json:"image-digest"`
		Tag        string `json:"image-tag"`
		Action     string `json:"action-type"`
	}
	type event struct {
		Account string  `json:"account"`
		Region  string  `json:"region"`
		Detail  *detail `json:"detail"`
	}
	var message struct {
		event
		Data *struct {
			event
			detail
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, err
	}
	e := message.event
	if d := message.Data; d != nil {
		if d.Account != "" {
			e.Account, e.Region = d.Account, d.Region
		}
		if e.Detail = d.event.Detail; e.Detail == nil {
			e.Detail = &d.detail
		}
	}
	switch {
	case e.Detail == nil || e.Detail.Action == "":
		return nil, errors.New("has no detail with an action-type")
	case e.Account == "" || e.Region == "":
		return nil, errors.New("has no account and region")
	case e.Detail.Result != "" && e.Detail.Result != "SUCCESS":
		return nil, nil
	}
	suffix := ".amazonaws.com"
	if strings.HasPrefix(e.Region, "cn-") {
		suffix += ".cn"
	}
	c := Change{
		Repository: e.Account + ".dkr.ecr." + e.Region + suffix + "/" + e.Detail.Repository, Tag: e.Detail.Tag, Digest: e.Detail.Digest,
	}
	switch e.Detail.Action {
	case "PUSH":
	case "DELETE":
		c.Deleted = true
	default:
		return nil, nil
	}
	return []Change{c}, nil
}
