//go:build cgo && linux

package spikeauth

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// goroutines returns the number of goroutines that are inside a method of a queue.
func goroutines(method string) int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ".(*queue)."+method+"(")
}

// eventfds returns the number of open eventfds. The runtime has one too.
func eventfds(t *testing.T) (n int) {
	t.Helper()
	descriptors, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, descriptor := range descriptors {
		if target, _ := os.Readlink(descriptor); strings.Contains(target, "eventfd") {
			n++
		}
	}
	return n
}

// started makes a queue and starts a call that fails at once.
func started(t *testing.T, h *handle) (q *queue, ended <-chan uint64, free func()) {
	t.Helper()
	q, failed := h.startedCalls("test")
	if failed != nil {
		t.Fatal(failed)
	}
	tags := make(chan uint64, 1)
	call, failed := q.start(h.native, &order{function: exchange, op: "test", userID: "alice"}, 0, tags)
	if failed != nil {
		t.Fatal(failed)
	}
	return q, tags, func() { q.free(call) }
}

// keepReaderBusy lets the reader wait for a lock until release is called.
func keepReaderBusy(t *testing.T, h *handle) (release func()) {
	t.Helper()
	for {
		q, ended, free := started(t, h)
		q.mutex.Lock()
		select {
		case <-ended: // too fast: the reader does not wait
			q.mutex.Unlock()
			free()
		default:
			Until(t, "the reader waits", func() bool { return goroutines("end") > 0 })
			return func() { q.mutex.Unlock(); free() }
		}
	}
}

func TestTheReaderEndsWithItsClient(t *testing.T) {
	Until(t, "no reader is left of other tests", func() bool { runtime.GC(); return goroutines("read") == 0 })
	before := eventfds(t)
	for name, drop := range map[string]func(*Client){
		"closed":    func(client *Client) { client.Close() },
		"forgotten": func(*Client) {},
	} {
		client := offlineClient(t)
		_, ended, free := started(t, client.handle)
		<-ended
		free()
		if goroutines("read") != 1 || eventfds(t) <= before {
			t.Errorf("%s: %d readers, %d eventfds, %d before", name, goroutines("read"), eventfds(t), before)
		}
		drop(client)
		client = nil
		Until(t, "the reader has ended", func() bool { runtime.GC(); return goroutines("read") == 0 })
		Until(t, "its descriptors are closed", func() bool { return eventfds(t) == before })
	}
}

func TestALateTagIsIgnored(t *testing.T) {
	ended := make(chan uint64, 2)
	q := &queue{waiting: map[uint64]chan<- uint64{1: ended, 2: ended}}
	q.free(startedCall{tag: 1})
	q.end([]uint64{1, 2, 2, 99})
	if tag := <-ended; tag != 2 || len(ended) != 0 || len(q.waiting) != 0 {
		t.Error(tag, len(ended), q.waiting)
	}
}

func TestADescriptorThatCannotBeWatched(t *testing.T) {
	file, err := os.Open(os.Args[0]) // the poller refuses a regular file
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if watched, err := watch(file.Fd()); err == nil || watched != nil {
		t.Errorf("%v, %v", watched, err)
	}
	if _, err := watch(1 << 30); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
}

// The test runs in its own process, whose limit on open files it lowers.
func TestAStartedCallWithoutADescriptor(t *testing.T) {
	if os.Getenv("SPIKEAUTH_TEST_FILES") == "" {
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), "SPIKEAUTH_TEST_FILES=1")
		out, err := command.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	blocking.Store(1 << 20)
	client := envClient(t)
	if _, err := client.Token(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	other := envClient(t)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for spare := range uint64(2) { // of the two descriptors of a queue
		lowered := limit
		lowered.Cur = lowestFree(t) + spare
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
			t.Fatal(err)
		}
		before := eventfds(t)
		_, err := other.Token(t.Context(), fmt.Sprint("spare-", spare))
		if !errors.Is(err, StatusInternal) || !strings.Contains(err.Error(), "RLIMIT_NOFILE") || eventfds(t) != before {
			t.Errorf("%d to spare: %v", spare, err)
		}
		if _, err := client.Token(t.Context(), "before"); err != nil {
			t.Errorf("%d to spare, a hit: %v", spare, err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Token(t.Context(), "after"); err != nil {
		t.Error(err)
	}
}

// lowestFree returns the number that the next descriptor has.
func lowestFree(t *testing.T) uint64 {
	t.Helper()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return uint64(file.Fd())
}
