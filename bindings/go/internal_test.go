//go:build cgo

package spikeauth

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
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
