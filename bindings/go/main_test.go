//go:build cgo

package spikeauth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

const (
	root          = "../.."
	applicationID = "9999"
	key           = "HMAC_KEY_FROM_ADMIN_CONSOLE"
)

var (
	until        = spikeauth.Until
	inTime       = spikeauth.InTime
	async        = spikeauth.Async
	concurrently = spikeauth.Concurrently
)

// server is the sandbox shared by most tests and, through the environment, by the examples.
var server *sandbox

func TestMain(m *testing.M) {
	clearEnvironment()
	var err error
	if server, err = startSandbox(); err != nil {
		fmt.Fprintf(os.Stderr, "the tests need the sandbox of the repository, built with cargo build -p spike-auth-sandbox: %v\n", err)
		os.Exit(1)
	}
	for name, value := range server.environment("http") {
		os.Setenv(name, value)
	}
	code := m.Run()
	server.stop()
	os.Exit(code)
}

// clearEnvironment unsets the variables that could change a result.
func clearEnvironment() {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "SPIKE_") || strings.HasPrefix(name, "SSL_CERT_") ||
			strings.HasSuffix(strings.ToLower(name), "_proxy") {
			os.Unsetenv(name)
		}
	}
}

// sandbox is a process that stands in for the service.
type sandbox struct {
	ready   map[string]string // its addresses and settings
	process *exec.Cmd
	counted testing.TB // the test that has read the counters
}

func startSandbox(args ...string) (*sandbox, error) {
	command := exec.Command(filepath.Join(root, "target", "debug", "spike-auth-sandbox"), args...)
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	s := &sandbox{ready: map[string]string{}, process: command}
	var ready map[string]any
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		s.stop()
		return nil, err
	}
	for name, value := range ready {
		s.ready[name] = fmt.Sprint(value)
	}
	return s, nil
}

func (s *sandbox) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// newSandbox starts a sandbox for one test.
func newSandbox(t testing.TB, args ...string) *sandbox {
	t.Helper()
	s, err := startSandbox(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *sandbox) reset() {
	if resp, err := http.Post(s.ready["control"]+"/reset", "", nil); err == nil {
		resp.Body.Close()
	}
}

// environment returns the variables that point the library to the sandbox.
func (s *sandbox) environment(scheme string) map[string]string {
	return map[string]string{
		"SPIKE_APPLICATION_ID": s.ready["application_id"],
		"SPIKE_HMAC_KEY":       s.ready["hmac_key"],
		"SPIKE_API_BASE_URL":   s.ready[scheme],
		"SPIKE_CA_FILE":        s.ready["ca_file"],
	}
}

// client returns a client for one of the sandbox's base URLs. It trusts only the sandbox.
func (s *sandbox) client(t testing.TB, scheme string, opts ...spikeauth.Option) *spikeauth.Client {
	t.Helper()
	pem, err := os.ReadFile(s.ready["ca_file"])
	if err != nil {
		t.Fatal(err)
	}
	opts = append([]spikeauth.Option{
		spikeauth.WithBaseURL(s.ready[scheme]),
		spikeauth.WithCAPEM(pem),
		spikeauth.WithTLSRoots(spikeauth.TLSRootsNone),
	}, opts...)
	client, err := spikeauth.New(applicationID, []byte(key), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// counters is what the sandbox has counted since its last reset.
type counters struct {
	Requests    int
	Tunnels     int
	MaxInFlight int `json:"max_in_flight"`
	Users       map[string]int
}

// counters resets them after the test, which may run again (-count).
func (s *sandbox) counters(t testing.TB) (c counters) {
	t.Helper()
	if s.counted != t {
		s.counted = t
		t.Cleanup(s.reset)
	}
	s.control(t, "/counters", &c)
	return c
}

// requests returns the number of well-formed requests for a user.
func (s *sandbox) requests(t testing.TB, user string) int {
	t.Helper()
	return s.counters(t).Users[user]
}

func (s *sandbox) control(t testing.TB, path string, into any) {
	t.Helper()
	resp, err := http.Get(s.ready["control"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// subject returns the user of a sandbox token.
func subject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Sub string }
	_ = json.Unmarshal(text, &claims)
	return claims.Sub
}
