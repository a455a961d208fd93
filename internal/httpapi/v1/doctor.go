package v1

// Check is one thing that the doctor looked at.
type Check struct {
	Name   string `json:"name" doc:"What was looked at, such as postgres.durability"`
	Status string `json:"status" enum:"ok,warning,failed" doc:"ok; warning: somebody should look at it; failed: something does not work, or can lose what was accepted"`
	Says   string `json:"says" doc:"What was found"`
	Do     string `json:"do,omitempty" doc:"What to do about it"`
}

// Doctor is what was found in one deployment, by the process that was asked.
type Doctor struct {
	Checks []Check `json:"checks" nullable:"false"`
}
