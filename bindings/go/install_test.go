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

// program is that of the README.
func program(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README has no program")
	}
	return program
}

// command runs one in a folder, and fails the test with all that it said.
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

// module writes a throw-away module that vendors the package.
func module(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program(t)), 0o600); err != nil {
		t.Fatal(err)
	}
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

// install puts the library into a prefix of its own.
func install(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("make install builds the library; -short leaves that out")
	}
	prefix := filepath.Join(t.TempDir(), "usr")
	command(t, root, []string{"MAKEFLAGS=", "MAKELEVEL="}, "make", "install", "PREFIX="+prefix)
	return prefix
}

func TestAModuleThatVendorsThePackage(t *testing.T) {
	prefix, folder := install(t), module(t)
	pkgConfig := []string{"GOFLAGS=-mod=vendor", "GOWORK=off", "CGO_CFLAGS=-O1", "CGO_LDFLAGS=",
		"PKG_CONFIG_PATH=" + filepath.Join(prefix, "lib", "pkgconfig")}
	library := "LD_LIBRARY_PATH=" + filepath.Join(prefix, "lib")

	t.Run("dynamic", func(t *testing.T) {
		program := filepath.Join(folder, "dynamic")
		command(t, folder, pkgConfig, "go", "build", "-o", program, ".")
		if needed := command(t, folder, nil, "readelf", "-dW", program); !strings.Contains(needed, "libspike_auth.so.1") {
			t.Errorf("it does not need the library: %s", needed)
		}
		checkNotFound(t, folder, program)
		checkProgram(t, folder, library, program)
	})
	t.Run("static", func(t *testing.T) {
		program := filepath.Join(folder, "static")
		command(t, folder, pkgConfig, "go", "build", "-tags", "spikeauth_static", "-o", program, ".")
		if needed := command(t, folder, nil, "readelf", "-dW", program); strings.Contains(needed, "libspike_auth") {
			t.Errorf("it needs the library: %s", needed)
		}
		checkProgram(t, folder, "LC_ALL=C", program)
	})
	t.Run("without cgo", func(t *testing.T) {
		program := filepath.Join(folder, "nocgo")
		command(t, folder, []string{"CGO_ENABLED=0", "GOFLAGS=-mod=vendor"}, "go", "build", "-o", program, ".")
		if said, err := run(folder, nil, program); err == nil || !strings.Contains(said, "built without cgo") {
			t.Error(said, err)
		}
	})
}

// checkNotFound runs it where the loader does not find the library.
func checkNotFound(t *testing.T, folder, program string) {
	t.Helper()
	const want = "error while loading shared libraries: libspike_auth.so.1: cannot open shared object file"
	checkREADME(t, want)
	said, err := run(folder, []string{"LC_ALL=C", "LD_LIBRARY_PATH="}, program)
	if err == nil {
		t.Log("the library is installed on this machine")
	} else if !strings.Contains(said, want) {
		t.Error(said, err)
	}
}

// checkREADME has what is said to users.
func checkREADME(t *testing.T, text string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), text) {
		t.Errorf("the README does not have %q", text)
	}
}

// checkProgram runs it with the sandbox's key, and with another one.
func checkProgram(t *testing.T, folder, variable, program string) {
	t.Helper()
	said := command(t, folder, []string{variable}, program)
	if want := fmt.Sprintf("got a header of %d characters\n", len("Bearer ")+tokenLength(t)); said != want {
		t.Errorf("%q, not %q", said, want)
	}
	said, err := run(folder, []string{variable, "SPIKE_HMAC_KEY=another"}, program)
	if err == nil || said != "SPIKE_HMAC_KEY is not the key of this application\n" {
		t.Error(said, err)
	}
}

// tokenLength is that of the program's user.
func tokenLength(t *testing.T) int {
	t.Helper()
	token, err := server.client(t, "http").Token(t.Context(), "my_application_user_123")
	if err != nil {
		t.Fatal(err)
	}
	return len(token)
}

// What the README says that the build says.
func TestWhatIsMissingIsNamed(t *testing.T) {
	folder, bare := module(t), t.TempDir()
	base := []string{"GOFLAGS=-mod=vendor", "GOWORK=off", "LC_ALL=C", "PKG_CONFIG_LIBDIR=" + bare}
	pc := func(t *testing.T, cflags, libs string) []string {
		t.Helper()
		folder := t.TempDir()
		text := "Name: spike_auth\nDescription: for a test\nVersion: 0.1.0\nCflags: " + cflags + "\nLibs: " + libs + "\n"
		if err := os.WriteFile(filepath.Join(folder, "spike_auth.pc"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return append(base, "PKG_CONFIG_PATH="+folder)
	}
	header := func(t *testing.T, text string) string {
		t.Helper()
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "spike_auth.h"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "-I" + folder
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
		{"a header of this ABI", "spike_auth.h is of another ABI than this package is for", pc(t, header(t, "#define SPIKE_AUTH_ABI_VERSION 2\n#define SPIKE_AUTH_VERSION_NUMBER 256\n"), "")},
		{"a header that is new enough", "spike_auth.h is older than this package", pc(t, header(t, "#define SPIKE_AUTH_ABI_VERSION 1\n#define SPIKE_AUTH_VERSION_NUMBER 1\n"), "")},
		{"the library", "cannot find -lspike_auth", pc(t, "-I"+include, "-L"+bare+" -lspike_auth")},
		{"the archive", "cannot find -l:libspike_auth.a", append(pc(t, "-I"+include, "-L"+bare+" -lspike_auth"), "GOFLAGS=-mod=vendor -tags=spikeauth_static")},
		{"a C compiler", `C compiler "gcc" not found`, withoutCompiler(t, "CGO_ENABLED=1")},
	} {
		t.Run(row.name, func(t *testing.T) {
			said, err := run(folder, row.env, "go", "build", "-o", filepath.Join(bare, "program"), ".")
			if err == nil || !strings.Contains(said, row.want) {
				t.Errorf("%v: %s", err, said)
			}
			checkREADME(t, strings.Replace(row.want, "no-such-pkg-config", "pkg-config", 1))
		})
	}
}

// withoutCompiler is an environment in which go finds no programs but its own.
func withoutCompiler(t *testing.T, cgo string) []string {
	t.Helper()
	goroot := strings.TrimSpace(command(t, ".", nil, "go", "env", "GOROOT"))
	return []string{"PATH=" + filepath.Join(goroot, "bin"), cgo, "CC=", "CXX=", "GOENV=off", "GOFLAGS=-mod=vendor",
		"GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off"}
}

func TestWithoutACompilerTheProgramSaysSo(t *testing.T) {
	folder := module(t)
	program := filepath.Join(folder, "program")
	command(t, folder, withoutCompiler(t, "CGO_ENABLED="), "go", "build", "-o", program, ".")
	said, err := run(folder, nil, program)
	if err == nil || !strings.Contains(said, spikeauth.ErrNoCgo.Error()) {
		t.Error(said, err)
	}
	const cause = "there was no C compiler: Go then turns it off by itself"
	if !strings.Contains(said, cause) {
		t.Errorf("%q does not say why", said)
	}
	checkREADME(t, cause)
	checkREADME(t, "spikeauth: built without cgo")
}

func TestACopiedClientIsFoundByVet(t *testing.T) {
	folder := module(t)
	const copied = `package main

import spikeauth "github.com/spike-auth/spike-auth/bindings/go"

func copied(client *spikeauth.Client) { _ = *client }
`
	if err := os.WriteFile(filepath.Join(folder, "copied.go"), []byte(copied), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := run(folder, withoutCompiler(t, "CGO_ENABLED=0"), "go", "vet", ".")
	if err == nil || !strings.Contains(said, "copies lock value") {
		t.Errorf("%v: %s", err, said)
	}
}
