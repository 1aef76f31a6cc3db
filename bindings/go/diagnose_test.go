//go:build cgo

package spikeauth_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestADiagnosisSaysWhatIsWrong(t *testing.T) {
	client := server.client(t, "http")
	well, err := client.Diagnose(t.Context(), "alice")
	if err != nil || !well.OK || well.Cure != "" || well.Version == "" || len(well.Checks) != 9 {
		t.Fatalf("%+v, %v", well, err)
	}
	if !json.Valid(well.JSON) || strings.Contains(string(well.JSON), "alice") {
		t.Errorf("%s", well.JSON)
	}
	bad, err := client.Diagnose(t.Context(), "fault.status.404")
	if err != nil || bad.OK || !strings.HasPrefix(bad.Cure, "Check the base URL") {
		t.Fatalf("%+v, %v", bad, err)
	}
	check := bad.Checks[6]
	if check.Name != "exchange" || check.Status != "failed" || check.Cure != bad.Cure || check.Millis <= 0 {
		t.Errorf("%+v", check)
	}
}
