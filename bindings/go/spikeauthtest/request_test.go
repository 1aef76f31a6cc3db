package spikeauthtest

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// vectors reads a table that all languages share.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../tests/vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

type request struct {
	Name, Method, Path, Body string
	ContentType              string `json:"content_type"`
	Blanks, Status           int
}

func requests(t *testing.T) []request {
	t.Helper()
	var table struct{ Requests []request }
	vectors(t, "requests.json", &table)
	if len(table.Requests) < 60 {
		t.Fatal("these are not the requests")
	}
	return table.Requests
}

func (r request) send(t *testing.T, base string) (status int, body string) {
	t.Helper()
	sent := strings.NewReader(r.Body + strings.Repeat(" ", r.Blanks))
	req, err := http.NewRequestWithContext(t.Context(), r.Method, base+r.Path, sent)
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// The suite of the Python binding compares the table with the sandbox.
func TestRequestsAreJudgedAsTheSandboxDoes(t *testing.T) {
	s := NewServer(t)
	for _, row := range requests(t) {
		status, body := row.send(t, s.BaseURL())
		var document map[string]any
		if err := json.Unmarshal([]byte(body), &document); status != row.Status || err != nil {
			t.Errorf("%s: %d, not %d: %v: %s", row.Name, status, row.Status, err, body)
		}
		if status != http.StatusOK && document["detail"] == nil {
			t.Errorf("%s: no problem document: %s", row.Name, body)
		}
	}
}

func TestAnApplicationIDThatIsNoNumberIsAString(t *testing.T) {
	good := requests(t)[0]
	for _, id := range []string{"007", "+7", "-7", "9223372036854775808", "abc"} {
		s := NewServer(t, WithApplication(id, "HMAC_KEY_FROM_ADMIN_CONSOLE"))
		for sent, want := range map[string]int{`"` + id + `"`: 200, "7": 422, "null": 422, `"other"`: 401} {
			row := good
			row.Body = strings.Replace(good.Body, "9999", sent, 1)
			if status, body := row.send(t, s.BaseURL()); status != want {
				t.Errorf("%s for %s: %d, not %d: %s", sent, id, status, want, body)
			}
		}
	}
}

// A program that uses spikeauth must not contain a test server.
func TestTheBindingDoesNotImportThisPackage(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "..", "../examples/...").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, dependency := range strings.Fields(string(out)) {
		if dependency == "testing" || strings.HasSuffix(dependency, "spikeauthtest") {
			t.Error(dependency)
		}
	}
	if !strings.Contains(string(out), "bindings/go\n") {
		t.Errorf("not the packages: %s", out)
	}
}
