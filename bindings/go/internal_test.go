//go:build cgo

package spikeauth

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestAClientThatIsDroppedIsFreed(t *testing.T) {
	client, err := New("9999", []byte("key"), WithBaseURL("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.SignUser("alice"); err != nil {
		t.Fatal(err)
	}
	h := client.handle
	client = nil
	for end := time.Now().Add(20 * time.Second); h.users.Load() != isClosed; runtime.GC() {
		if time.Now().After(end) {
			t.Fatalf("it is still there, with %#x users", h.users.Load())
		}
	}
}

// The runtime runs all cleanups of a program on few goroutines.
func TestAClientThatCannotBeFreedYetHoldsUpNoOtherCleanup(t *testing.T) {
	client, err := New("9999", []byte("key"), WithBaseURL("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	slots := client.handle.slots
	slot := <-slots
	users := &client.handle.users
	client = nil
	Until(t, "the end of the client", func() bool { runtime.GC(); return users.Load() == isClosed })
	defer func() { slots <- slot }()
	ran := make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		runtime.AddCleanup(new([16]int), func(int) { ran <- struct{}{} }, 1)
		Until(t, "another cleanup", func() bool {
			runtime.GC()
			select {
			case <-ran:
				return true
			default:
				return false
			}
		})
	}
}

func TestAClosedClientIsFreedByTheLastOneOut(t *testing.T) {
	client, err := New("9999", []byte("key"), WithBaseURL("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	h := client.handle
	if !h.enter() {
		t.Fatal("it does not let anybody in")
	}
	client.Close()
	if h.users.Load() != isClosed|1 || len(h.slots) != cap(h.slots) || h.enter() {
		t.Errorf("%#x users", h.users.Load())
	}
	h.leave()
	if h.users.Load() != isClosed || len(h.slots) != 0 {
		t.Errorf("it was not freed: %#x users", h.users.Load())
	}
}

func TestEveryTextIsTheLibrarys(t *testing.T) {
	for status, known := range statuses {
		theirs := strings.TrimSuffix(libraryText(status), ".")
		if !strings.EqualFold(theirs, known.text) {
			t.Errorf("%s: %q, and here %q", known.name, theirs, known.text)
		}
	}
}

func TestAPeekThatFailedMaySucceedTheNextTime(t *testing.T) {
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	token, err := client.Token(t.Context(), "peeked")
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, authorizationSize)
	for user, want := range map[string]Status{"peeked": StatusOK, "not-there": StatusNotCached, "not valid": StatusInvalidUserID} {
		n, status, failed := clientPeekError(client.handle.native, user, out, "token")
		if status != want || (failed != nil) != (want == StatusInvalidUserID) || failed != nil && failed.Status != want ||
			want == StatusOK && string(out[:n]) != token {
			t.Errorf("%s: %d, %v, %v", user, n, status, failed)
		}
	}
}

// beneath is what a call has left on the stack.
//
//go:noinline
//go:nocheckptr
func beneath(call func()) []byte {
	left := make([]byte, 4096)
	call()
	for i := range left {
		left[i] = *(*byte)(unsafe.Add(unsafe.Pointer(&call), i-len(left)))
	}
	return left
}

// deep makes the stack as large as is needed, so that what lies beneath is part of it.
//
//go:noinline
func deep(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n] = deep(n - 1)
	}
	return frame[n/2]
}

func TestNoSignatureStaysOnTheStack(t *testing.T) {
	client, err := New("9999", []byte("key"), WithBaseURL("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	signature, _ := client.SignUser("alice")
	out := make([]byte, 0, signatureLen)
	deep(64)
	for name, call := range map[string]func(){
		"SignUser":        func() { _, _ = client.SignUser("alice") },
		"AppendSignature": func() { _, _ = client.AppendSignature(out, "alice") },
		"package":         func() { _, _ = SignUser([]byte("key"), "alice") },
	} {
		if bytes.Contains(beneath(call), []byte(signature)) {
			t.Errorf("%s leaves it there", name)
		}
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]uint64{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second - 1: 1000,
		time.Hour: 3600000, 1<<63 - 1: 9223372036855,
	} {
		if ms, err := milliseconds("time", d); err != nil || ms != want {
			t.Errorf("%v: %d, %v", d, ms, err)
		}
	}
	if _, err := milliseconds("time", -1); !errors.Is(err, StatusInvalidArgument) {
		t.Error(err)
	}
}

// Until waits for a condition, and fails the test if it never comes.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// InTime runs measure until it took no longer than most. A busy machine may be late a few times by itself; a library
// that is late is so every time.
func InTime(t *testing.T, most time.Duration, measure func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 3 {
		took = append(took, measure())
		if took[len(took)-1] <= most {
			return
		}
	}
	t.Fatalf("took %v, and not %v at the most", took, most)
}
