//go:build cgo

package spikeauth

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// offlineClient returns a client that can only sign.
func offlineClient(t *testing.T) *Client {
	t.Helper()
	client, err := New("9999", []byte("key"), WithBaseURL("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// envClient returns a client of the sandbox.
func envClient(t *testing.T, opts ...Option) *Client {
	t.Helper()
	client, err := NewFromEnv(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestAnUnreachableClientIsFreed(t *testing.T) {
	client := offlineClient(t)
	if _, err := client.SignUser("alice"); err != nil {
		t.Fatal(err)
	}
	h := client.handle
	client = nil
	Until(t, "the client is freed", func() bool { runtime.GC(); return h.refs.Load() == closedFlag })
}

// The runtime runs all cleanups of a program on few goroutines, and freeing a client waits for its reader.
func TestAClientInUseBlocksNoOtherCleanup(t *testing.T) {
	client := offlineClient(t)
	release := keepReaderBusy(t, client.handle)
	defer release()
	refs := &client.handle.refs
	client = nil
	Until(t, "the client is closed", func() bool { runtime.GC(); return refs.Load() == closedFlag })
	ran := make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		runtime.AddCleanup(new([16]int), func(int) { ran <- struct{}{} }, 1)
		Until(t, "another cleanup has run", func() bool {
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

func TestTheLastReleaseFreesAClosedClient(t *testing.T) {
	client := offlineClient(t)
	h := client.handle
	if _, err := client.acquire("test", oneCall); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := client.acquire("test", oneCall); !errors.Is(err, ErrClosed) || h.refs.Load() != closedFlag|oneCall {
		t.Errorf("%v, %#x references", err, h.refs.Load())
	}
	client.release(oneCall)
	if h.refs.Load() != closedFlag {
		t.Errorf("not freed: %#x references", h.refs.Load())
	}
}

// beneath returns what a call has left on the stack.
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

// deep grows the stack, so that it includes what lies beneath.
//
//go:noinline
func deep(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n] = deep(n - 1)
	}
	return frame[n/2]
}

func TestSignaturesAreWipedFromTheStack(t *testing.T) {
	client := offlineClient(t)
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
			t.Errorf("%s leaves its signature", name)
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

// Until waits for a condition.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// InTime fails unless one of three measurements is within limit: a busy machine is late once, slow code every time.
func InTime(t *testing.T, limit time.Duration, measure func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 3 {
		took = append(took, measure())
		if took[len(took)-1] <= limit {
			return
		}
	}
	t.Fatalf("took %v, more than %v", took, limit)
}

// Async runs a call in a goroutine and returns the channel of its error.
func Async(call func() (string, error)) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := call()
		result <- err
	}()
	return result
}

// Concurrently runs n calls at once and waits for all of them.
func Concurrently(n int, call func(i int)) {
	var calls sync.WaitGroup
	for i := range n {
		calls.Add(1)
		go func() {
			defer calls.Done()
			call(i)
		}()
	}
	calls.Wait()
}
