//go:build cgo && linux

package spikeauth_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// readme returns the README, which quotes the messages below.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkREADME checks that the README quotes a message.
func checkREADME(t *testing.T, message string) {
	t.Helper()
	if !strings.Contains(readme(t), message) {
		t.Errorf("the README does not contain %q", message)
	}
}

// write creates a file and returns its folder.
func write(t *testing.T, folder, name, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// command runs a command in a folder and returns its output.
func command(t *testing.T, folder string, env []string, args ...string) string {
	t.Helper()
	out, err := run(folder, env, args...)
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return out
}

func run(folder string, env []string, args ...string) (string, error) {
	command := exec.Command(args[0], args[1:]...)
	command.Dir = folder
	command.Env = append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// module creates a module that vendors the package and has the README's program.
func module(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(readme(t), "```go\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README has no program")
	}
	folder := write(t, t.TempDir(), "main.go", program)
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	const path = "github.com/spike-auth/spike-auth/bindings/go"
	offline := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off"}
	command(t, folder, offline, "go", "mod", "init", "example.com/throwaway")
	command(t, folder, offline, "go", "mod", "edit", "-go=1.24", "-require="+path+"@v0.0.0", "-replace="+path+"="+here)
	command(t, folder, offline, "go", "mod", "vendor")
	return folder
}

// install installs the library into a temporary prefix.
func install(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("make install builds the library; skipped by -short")
	}
	prefix := filepath.Join(t.TempDir(), "usr")
	command(t, root, []string{"MAKEFLAGS=", "MAKELEVEL="}, "make", "install", "PREFIX="+prefix)
	return prefix
}

func TestVendoredModule(t *testing.T) {
	prefix, folder := install(t), module(t)
	pkgConfig := []string{"GOFLAGS=-mod=vendor", "GOWORK=off", "CGO_CFLAGS=-O1", "CGO_LDFLAGS=",
		"PKG_CONFIG_PATH=" + filepath.Join(prefix, "lib", "pkgconfig")}
	library := "LD_LIBRARY_PATH=" + filepath.Join(prefix, "lib")

	t.Run("dynamic", func(t *testing.T) {
		program := filepath.Join(folder, "dynamic")
		command(t, folder, pkgConfig, "go", "build", "-o", program, ".")
		if needed := command(t, folder, nil, "readelf", "-dW", program); !strings.Contains(needed, "libspike_auth.so.1") {
			t.Errorf("the library is not needed: %s", needed)
		}
		checkNotFound(t, folder, program)
		checkProgram(t, folder, library, program)
	})
	t.Run("static", func(t *testing.T) {
		program := filepath.Join(folder, "static")
		command(t, folder, pkgConfig, "go", "build", "-tags", "spikeauth_static", "-o", program, ".")
		if needed := command(t, folder, nil, "readelf", "-dW", program); strings.Contains(needed, "libspike_auth") {
			t.Errorf("the library is needed: %s", needed)
		}
		checkProgram(t, folder, "LC_ALL=C", program)
	})
	t.Run("without a compiler", func(t *testing.T) {
		program := filepath.Join(folder, "nocgo")
		command(t, folder, withoutCompiler(t, "CGO_ENABLED="), "go", "build", "-o", program, ".")
		if output, err := run(folder, nil, program); err == nil || !strings.Contains(output, spikeauth.ErrNoCgo.Error()) {
			t.Error(output, err)
		}
		checkREADME(t, "spikeauth: built without cgo")
	})
}

// checkNotFound runs a program where the loader does not find the library.
func checkNotFound(t *testing.T, folder, program string) {
	t.Helper()
	const want = "error while loading shared libraries: libspike_auth.so.1: cannot open shared object file"
	checkREADME(t, want)
	output, err := run(folder, []string{"LC_ALL=C", "LD_LIBRARY_PATH="}, program)
	if err == nil {
		t.Log("the library is installed on this machine")
	} else if !strings.Contains(output, want) {
		t.Error(output, err)
	}
}

// checkProgram runs the README's program with the sandbox's key and with another one.
func checkProgram(t *testing.T, folder, variable, program string) {
	t.Helper()
	output := command(t, folder, []string{variable}, program)
	header, err := server.client(t, "http").Authorization(t.Context(), "my_application_user_123")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("received a header of %d characters\n", len(header)); output != want {
		t.Errorf("%q, not %q", output, want)
	}
	output, err = run(folder, []string{variable, "SPIKE_HMAC_KEY=another"}, program)
	if err == nil || output != "SPIKE_HMAC_KEY is not the key of this application\n" {
		t.Error(output, err)
	}
}

// The README quotes each of these messages.
func TestTheBuildNamesWhatIsMissing(t *testing.T) {
	folder, bare := module(t), t.TempDir()
	base := []string{"GOFLAGS=-mod=vendor", "GOWORK=off", "LC_ALL=C", "PKG_CONFIG_LIBDIR=" + bare}
	pc := func(t *testing.T, cflags, libs string) []string {
		t.Helper()
		text := "Name: spike_auth\nDescription: for a test\nVersion: 0.1.0\nCflags: " + cflags + "\nLibs: " + libs + "\n"
		return append(base, "PKG_CONFIG_PATH="+write(t, t.TempDir(), "spike_auth.pc", text))
	}
	header := func(abi, version int) string {
		text := fmt.Sprintf("#define SPIKE_AUTH_ABI_VERSION %d\n#define SPIKE_AUTH_VERSION_NUMBER %d\n", abi, version)
		return "-I" + write(t, t.TempDir(), "spike_auth.h", text)
	}
	include, err := filepath.Abs(filepath.Join(root, "include"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, want string
		env        []string
	}{
		{"pkg-config", `exec: "no-such-pkg-config": executable file not found in $PATH`, append(base, "PKG_CONFIG=no-such-pkg-config")},
		{"the pkg-config file", "Package spike_auth was not found in the pkg-config search path.", append(base, "PKG_CONFIG_PATH="+bare)},
		{"the header", "spike_auth.h was not found where pkg-config says", pc(t, "", "")},
		{"the right ABI", "spike_auth.h has another ABI than this package", pc(t, header(2, 256), "")},
		{"a newer header", "spike_auth.h is older than this package", pc(t, header(1, 1), "")},
		{"the library", "cannot find -lspike_auth", pc(t, "-I"+include, "-L"+bare+" -lspike_auth")},
		{"the archive", "cannot find -l:libspike_auth.a", append(pc(t, "-I"+include, "-L"+bare+" -lspike_auth"), "GOFLAGS=-mod=vendor -tags=spikeauth_static")},
		{"a C compiler", `C compiler "gcc" not found`, withoutCompiler(t, "CGO_ENABLED=1")},
	} {
		t.Run(row.name, func(t *testing.T) {
			output, err := run(folder, row.env, "go", "build", "-o", filepath.Join(bare, "program"), ".")
			if err == nil || !strings.Contains(output, row.want) {
				t.Errorf("%v: %s", err, output)
			}
			checkREADME(t, strings.Replace(row.want, "no-such-pkg-config", "pkg-config", 1))
		})
	}
}

// withoutCompiler is an environment in which go finds only its own programs.
func withoutCompiler(t *testing.T, cgo string) []string {
	t.Helper()
	goroot := strings.TrimSpace(command(t, ".", nil, "go", "env", "GOROOT"))
	return []string{"PATH=" + filepath.Join(goroot, "bin"), cgo, "CC=", "CXX=", "GOENV=off", "GOFLAGS=-mod=vendor",
		"GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off"}
}

func TestVetReportsACopiedClient(t *testing.T) {
	const copied = `package main

import spikeauth "github.com/spike-auth/spike-auth/bindings/go"

func copied(client *spikeauth.Client) { _ = *client }
`
	folder := write(t, module(t), "copied.go", copied)
	output, err := run(folder, withoutCompiler(t, "CGO_ENABLED=0"), "go", "vet", ".")
	if err == nil || !strings.Contains(output, "copies lock value") {
		t.Errorf("%v: %s", err, output)
	}
}
