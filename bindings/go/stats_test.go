package spikeauth

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"testing"
)

// Each field is shown under the header's name, by every way to show it.
func TestStatsAreShownWhole(t *testing.T) {
	var stats Stats
	fields := reflect.ValueOf(&stats).Elem()
	want := map[string]uint64{}
	for i := range fields.NumField() {
		fields.Field(i).SetUint(uint64(i) + 1<<60)
		want[fields.Type().Field(i).Tag.Get("json")] = uint64(i) + 1<<60
	}
	for name := range want {
		if !fields.FieldByName(goName(name)).IsValid() {
			t.Errorf("%s is no field", name)
		}
	}
	var text map[string]uint64
	if err := json.Unmarshal([]byte(stats.String()), &text); err != nil || !reflect.DeepEqual(text, want) {
		t.Errorf("%v, %v, not %v", text, err, want)
	}
	logged := map[string]uint64{}
	for _, attr := range slog.AnyValue(stats).Resolve().Group() {
		logged[attr.Key] = attr.Value.Uint64()
	}
	if !reflect.DeepEqual(logged, want) {
		t.Errorf("%v, not %v", logged, want)
	}
}
