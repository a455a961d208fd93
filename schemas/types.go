package schemas

// Types are all event types that Tocsin emits.
var Types = []string{
	TypeManifestIndexed, TypeManifestIndexFailed, TypeVulnerabilitiesChanged, TypeManifestRetired,
	TypeUpdateCompleted, TypeUpdateFailed, TypeUpdateHeld, TypeUpdateStale, TypeManifestsChanged,
	TypeSubscriptionFailing, TypeSubscriptionRecovered, TypeSubscriptionDisabled,
	TypeJobRejected, TypePing,
}

// Data is a zero value of the data of each event type.
var Data = map[string]any{
	TypeManifestIndexed:        ManifestIndexed{},
	TypeManifestIndexFailed:    ManifestIndexFailed{},
	TypeVulnerabilitiesChanged: VulnerabilitiesChanged{},
	TypeManifestRetired:        ManifestRetired{},
	TypeUpdateCompleted:        UpdateCompleted{},
	TypeUpdateFailed:           UpdateFailed{},
	TypeUpdateHeld:             UpdateHeld{},
	TypeUpdateStale:            UpdateStale{},
	TypeManifestsChanged:       ManifestsChanged{},
	TypeSubscriptionFailing:    SubscriptionState{},
	TypeSubscriptionRecovered:  SubscriptionState{},
	TypeSubscriptionDisabled:   SubscriptionState{},
	TypeJobRejected:            JobRejected{},
	TypePing:                   Ping{},
}
