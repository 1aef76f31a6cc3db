// Tokens in a Go map under a sync.RWMutex: `cache IDS_FILE TOKEN`. The protocol is that of ../cache.c, with one
// FUNCTION, get_token.
//
// In the timed loop: the read lock, the look-up, the check of the expiry time against Go's cheapest clock, and a copy
// of the token into the goroutine's own buffer.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	idLen     = 23
	askingMax = 2
	piece     = 256 // as in ../cache.c
	lifetime  = time.Hour
	threadCPU = 3 // CLOCK_THREAD_CPUTIME_ID
)

type entry struct {
	token     string
	expiresAt time.Duration // since start
}

var (
	start  = time.Now()
	mutex  sync.RWMutex
	tokens = map[string]entry{}
	ids    string
	token  string
	walked int // as in ../cache.c
	drawn  atomic.Int64
	shares [askingMax]share

	// Fills, makes the function by which one goroutine asks, and runs a step with it. The binding replaces all three.
	fill   = fillMap
	newAsk = askMap
	run    = askAll
)

type share struct {
	pieces        int
	cpuNs, wallNs int64
}

func getToken(user string, buffer []byte) int {
	mutex.RLock()
	found, ok := tokens[user]
	mutex.RUnlock()
	if !ok || time.Since(start) >= found.expiresAt {
		die("a token was not in the map")
	}
	return copy(buffer, found.token)
}

func askMap() func(user string) int {
	buffer := make([]byte, 8192)
	return func(user string) int { return getToken(user, buffer) }
}

func askPiece(place, step int, ask func(user string) int) {
	for range piece {
		if ask(ids[place:place+idLen]) != len(token) {
			die("not the token")
		}
		place += step
		if place == len(ids) {
			place = 0
		}
	}
}

func askPieces(thread, count, step int, ask func(user string) int) {
	begin := time.Now()
	waitedBefore, cpuBefore, pieces := waitedNs(), clockNs(threadCPU), 0
	for {
		at := int(drawn.Add(1)-1) * piece
		if at >= count {
			break
		}
		askPiece((walked+at)*step%len(ids), step, ask)
		pieces++
	}
	cpuNs, waited := clockNs(threadCPU)-cpuBefore, waitedNs()-waitedBefore
	shares[thread] = share{pieces, cpuNs, time.Since(begin).Nanoseconds() - waited}
}

func askAll(which string, threads, count int) (cpuNs, wallNs int64) {
	step := 0
	if which == "random" {
		step = idLen
	}
	drawn.Store(0)
	var warm, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range threads {
		warm.Add(1)
		done.Add(1)
		go func() {
			runtime.LockOSThread() // its clock is read
			takeCore(i)
			ask := newAsk()
			askPiece(0, step, ask)
			warm.Done()
			<-begin
			askPieces(i, count, step, ask)
			done.Done()
		}()
	}
	warm.Wait()
	close(begin)
	done.Wait()
	rate := 0.0 // pieces per nanosecond
	for _, one := range shares[:threads] {
		cpuNs += one.cpuNs
		rate += float64(one.pieces) / float64(one.wallNs)
	}
	if step > 0 {
		walked = (walked + count) % (len(ids) / idLen)
	}
	return cpuNs, int64(float64(count/piece) / rate)
}

// Every entry has its own copies of user id and token. Garbage is returned to the system afterwards.
func fillMap(count int) (cpuNs, wallNs int64) {
	token = os.Args[2]
	cpuBefore, wallBefore := clockNs(threadCPU), time.Now()
	for i := range count {
		user := fmt.Sprintf("my_application_u%07d", i)
		mutex.Lock()
		tokens[user] = entry{strings.Clone(token), time.Since(start) + lifetime}
		mutex.Unlock()
	}
	cpuNs, wallNs = clockNs(threadCPU)-cpuBefore, time.Since(wallBefore).Nanoseconds()
	debug.FreeOSMemory()
	return cpuNs, wallNs
}

func clockNs(clock uintptr) int64 {
	var now syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0); err != 0 {
		die(err.Error())
	}
	return now.Nano()
}

// The time spent waiting for a core, as in ../cache.c.
func waitedNs() int64 {
	text, _ := os.ReadFile("/proc/thread-self/schedstat") // 0 where there is none
	var ran, waited int64
	fmt.Sscan(string(text), &ran, &waited)
	return waited
}

// As in ../cache.c. The thread ends with its goroutine.
func takeCore(thread int) {
	var all, mine [16]uint64 // 1024 cores
	size := unsafe.Sizeof(all)
	if _, _, err := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, size, uintptr(unsafe.Pointer(&all))); err != 0 {
		die(err.Error())
	}
	for core := range 64 * len(all) {
		bit := uint64(1) << (core % 64)
		if all[core/64]&bit == 0 {
			continue
		}
		if thread == 0 {
			mine[core/64] = bit
			syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&mine)))
		}
		thread--
	}
}

func die(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func main() {
	runtime.GOMAXPROCS(askingMax)
	runtime.LockOSThread() // to read the same clock throughout
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		die(err.Error())
	}
	ids = string(text)
	var name string
	var count int
	for {
		if _, err := fmt.Scan(&name, &count); err != nil {
			return
		}
		if name == "fill" {
			fmt.Println(fill(count))
			continue
		}
		parts := strings.Split(name, ":")
		threads, err := strconv.Atoi(parts[2])
		if err != nil {
			die(err.Error())
		}
		fmt.Println(run(parts[1], threads, count))
	}
}
