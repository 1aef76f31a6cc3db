// Tokens from a store: `store STORE_URL`. It is built together with goredis.go, or with the binding's store.go, which say
// what is in the timed loop. One goroutine; CPU time is that of the process. The protocol is that of ../step.h; NAME is
// "hit".
package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	users  = 2000 // as HIT_USERS in ../store.c
	warmUp = 20
)

var (
	open  func(arguments []string) error
	clear = func() {} // empties the client's own cache
	get   func(ctx context.Context, user string) error
)

func getMany(count int) {
	for i := range count {
		ctx, cancel := context.WithCancel(context.Background())
		if err := get(ctx, name(i)); err != nil {
			die(err)
		}
		cancel()
	}
}

func name(i int) string { return fmt.Sprintf("my_application_u%07d", i%users) }

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		die(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func die(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	if err := open(os.Args[1:]); err != nil {
		die(err)
	}
	var step string
	var count int
	for {
		if _, err := fmt.Scan(&step, &count); err != nil {
			return
		}
		getMany(warmUp)
		clear()
		cpuBefore, wallBefore := cpu(), time.Now()
		getMany(count)
		fmt.Println(cpu()-cpuBefore, time.Since(wallBefore).Nanoseconds())
	}
}
