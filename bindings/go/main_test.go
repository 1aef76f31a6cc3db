//go:build cgo

package spikeauth_test

import (
	"bufio"
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
	until  = spikeauth.Until
	inTime = spikeauth.InTime
)

// server is the sandbox of all tests that need no other, and of the examples, which find it in the environment.
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

// clearEnvironment takes out what could change a result.
func clearEnvironment() {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "SPIKE_") || strings.HasPrefix(name, "SSL_CERT_") ||
			strings.HasSuffix(strings.ToLower(name), "_proxy") {
			os.Unsetenv(name)
		}
	}
}

// sandbox stands in for the service.
type sandbox struct {
	places  map[string]string // the addresses of its ready line; those of tls_faults as "tls_faults.NAME"
	process *exec.Cmd
	counted testing.TB
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
	s := &sandbox{places: map[string]string{}, process: command}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = s.read(line)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *sandbox) read(line []byte) error {
	var ready map[string]any
	if err := json.Unmarshal(line, &ready); err != nil {
		return err
	}
	for name, value := range ready {
		if inner, ok := value.(map[string]any); ok {
			for key, value := range inner {
				s.places[name+"."+key] = fmt.Sprint(value)
			}
			continue
		}
		s.places[name] = fmt.Sprint(value)
	}
	return nil
}

func (s *sandbox) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// newSandbox starts one with options of its own.
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
	if resp, err := http.Post(s.places["control"]+"/reset", "", nil); err == nil {
		resp.Body.Close()
	}
}

// environment points the library to the sandbox.
func (s *sandbox) environment(scheme string) map[string]string {
	return map[string]string{
		"SPIKE_APPLICATION_ID": s.places["application_id"],
		"SPIKE_HMAC_KEY":       s.places["hmac_key"],
		"SPIKE_API_BASE_URL":   s.places[scheme],
		"SPIKE_CA_FILE":        s.places["ca_file"],
	}
}

// client makes one for an address of the sandbox. It trusts the sandbox alone.
func (s *sandbox) client(t testing.TB, place string, opts ...spikeauth.Option) *spikeauth.Client {
	t.Helper()
	pem, err := os.ReadFile(s.places["ca_file"])
	if err != nil {
		t.Fatal(err)
	}
	opts = append([]spikeauth.Option{
		spikeauth.WithBaseURL(s.places[place]),
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

// counters is how often the sandbox was asked.
type counters struct {
	Requests          int
	Connections       int
	Tunnels           int
	InFlight          int `json:"in_flight"`
	MaxInFlight       int `json:"max_in_flight"`
	FollowedRedirects int `json:"followed_redirects"`
	Users             map[string]int
}

// It begins anew after a test that has looked, which may run again (-count).
func (s *sandbox) counters(t testing.TB) (c counters) {
	t.Helper()
	if s.counted != t {
		s.counted = t
		t.Cleanup(s.reset)
	}
	s.control(t, "/counters", &c)
	return c
}

// requests is how many were well formed and for this user.
func (s *sandbox) requests(t testing.TB, user string) int {
	t.Helper()
	return s.counters(t).Users[user]
}

func (s *sandbox) control(t testing.TB, path string, into any) {
	t.Helper()
	resp, err := http.Get(s.places["control"] + path)
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

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}
