//go:build cgo && !spikeauth_static

package spikeauth_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildExample builds an example with the go command of this test, which is the first in PATH.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./examples/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func TestExampleCommandProgram(t *testing.T) {
	program := buildExample(t, "command")
	output, err := exec.Command(program, "command-user").CombinedOutput()
	token, isHeader := strings.CutPrefix(strings.TrimSpace(string(output)), "Authorization: Bearer ")
	if err != nil || !isHeader || subject(token) != "command-user" {
		t.Errorf("%v: %s", err, output)
	}
	wrong := exec.Command(program, "command-user")
	wrong.Env = append(os.Environ(), "SPIKE_HMAC_KEY=not the key")
	output, err = wrong.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "spikeauth: authorization: 401 Unauthorized") ||
		!strings.Contains(string(output), "Is SPIKE_HMAC_KEY the key") || strings.Contains(string(output), "not the key") {
		t.Errorf("%v: %s", err, output)
	}
}

func TestExampleClientProgram(t *testing.T) {
	a := newAPI(t)
	output, err := exec.Command(buildExample(t, "client"), "client-user", a.URL).CombinedOutput()
	if err != nil || string(output) != "the body" || len(a.headers) != 1 ||
		subject(strings.TrimPrefix(a.headers[0], "Bearer ")) != "client-user" {
		t.Errorf("%v: %s, %q", err, output, a.headers)
	}
}

func TestExampleServerProgram(t *testing.T) {
	command := exec.Command(buildExample(t, "server"))
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	command.Stderr = &logged
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(line)
	ask := func(user string) (int, string, string) {
		resp, err := http.Get(address + "/token/" + user)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, strings.TrimSpace(string(body)), resp.Header.Get("Retry-After")
	}
	for range 2 {
		if status, token, _ := ask("server-user"); status != 200 || subject(token) != "server-user" {
			t.Errorf("%d, %q", status, token)
		}
	}
	if n := server.requests(t, "server-user"); n != 1 {
		t.Errorf("%d exchanges", n)
	}
	for _, row := range []struct{ user, want string }{
		{"not%20valid", "404 there is no such user "},
		{"fault.status.403.server", "502 no token "},
		{"fault.retry-after.60.server", "503 try again later 61"}, // last, because it applies to all calls of the client
	} {
		status, body, wait := ask(row.user)
		if got := fmt.Sprintf("%d %s %s", status, body, wait); got != row.want {
			t.Errorf("%s: %q, not %q", row.user, got, row.want)
		}
	}
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil || strings.Contains(logged.String(), "server-user") {
		t.Errorf("%v: %s", err, logged.String())
	}
}
