// Package integration runs the binding with the modules of others whose interfaces it implements. It is a module of its
// own, so that the binding has no dependency.
package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const sandbox = "../../../target/debug/spike-auth-sandbox"

// The examples are configured by the environment, which points to a sandbox here. Each token that it issues is new.
func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "SPIKE_") || strings.HasPrefix(name, "SSL_CERT_") ||
			strings.HasSuffix(strings.ToLower(name), "_proxy") {
			os.Unsetenv(name)
		}
	}
	server := exec.Command(sandbox, "--fresh-tokens")
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests need the sandbox of the repository (make sandbox):", err)
		os.Exit(1)
	}
	var ready map[string]any
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for variable, name := range map[string]string{
		"SPIKE_APPLICATION_ID": "application_id", "SPIKE_HMAC_KEY": "hmac_key", "SPIKE_API_BASE_URL": "http",
	} {
		os.Setenv(variable, fmt.Sprint(ready[name]))
	}
	code := m.Run()
	_ = server.Process.Kill()
	_ = server.Wait()
	os.Exit(code)
}
