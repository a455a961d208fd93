package schemas

// Types are all event types that Tocsin emits.
var Types = []string{
	TypeManifestIndexed, TypeManifestIndexFailed, TypeVulnerabilitiesChanged,
	TypeUpdateCompleted, TypeUpdateFailed, TypeUpdateHeld, TypeManifestsChanged,
	TypeSubscriptionFailing, TypeSubscriptionRecovered, TypeSubscriptionDisabled,
	TypeJobRejected, TypePing,
}
