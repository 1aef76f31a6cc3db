//go:build cgo && linux && !spikeauth_static

package spikeauth

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// otherLibrary is preloaded to replace the version numbers of the linked library.
const otherLibrary = `
#include <stdint.h>
uint32_t spike_auth_abi_version(void) { return ABI; }
uint32_t spike_auth_version_number(void) { return VERSION; }
`

func TestAnotherLibraryVersionIsRefused(t *testing.T) {
	if os.Getenv("SPIKEAUTH_TEST_OTHER") != "" {
		_, err := New("9999", []byte("key"))
		_, signError := SignUser([]byte("key"), "alice")
		verifyError := VerifyUser([]byte("key"), "alice", "00")
		fmt.Println(err)
		if err != nil && (err.Error() != signError.Error() || err.Error() != verifyError.Error() || err == signError || err == verifyError) {
			t.Error(err, signError, verifyError)
		}
		return
	}
	folder := t.TempDir()
	source := filepath.Join(folder, "other.c")
	if err := os.WriteFile(source, []byte(otherLibrary), 0o600); err != nil {
		t.Fatal(err)
	}
	for defines, want := range map[string]string{
		"-DABI=2 -DVERSION=0x020304": "libspike_auth 2.3.4 with ABI 2 was loaded",
		"-DABI=1 -DVERSION=0x000001": "libspike_auth 0.0.1 with ABI 1 was loaded",
		"-DABI=1 -DVERSION=0x000100": "<nil>",
	} {
		library := filepath.Join(folder, fmt.Sprintf("other-%x.so", defines))
		args := append(strings.Fields(defines), "-shared", "-fPIC", "-o", library, source)
		if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), "SPIKEAUTH_TEST_OTHER=1", "LD_PRELOAD="+library)
		out, err := command.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", defines, err, out)
		}
	}
}
