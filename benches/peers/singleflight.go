// Tokens in a Go map under a sync.RWMutex, and for a user who is not in it one exchange for all goroutines, with
// golang.org/x/sync/singleflight. It is built together with exchange.go.
//
// In the timed loop: the look-up; for a miss Do, in which a goroutine cannot stop waiting when its context ends. DoChan, in
// which it can, costs more.
package main

import (
	"context"
	"sync"

	"golang.org/x/sync/singleflight"
)

const exchangesMax = 32 // as the library has in flight

var (
	mutex   sync.RWMutex
	tokens  = map[string]string{}
	flights singleflight.Group
	permits = make(chan struct{}, exchangesMax)
)

func tokenOf(_ context.Context, user string) error {
	mutex.RLock()
	_, ok := tokens[user]
	mutex.RUnlock()
	if ok {
		return nil
	}
	_, err, _ := flights.Do(user, func() (any, error) { return fetch(user) })
	return err
}

// fetch belongs to all who wait for it, and therefore has no context of one of them. A goroutine that looked before the
// token was in the map may come after the flight has ended.
func fetch(user string) (string, error) {
	mutex.RLock()
	token, ok := tokens[user]
	mutex.RUnlock()
	if ok {
		return token, nil
	}
	permits <- struct{}{}
	defer func() { <-permits }()
	token, err := exchangeForToken(context.Background(), user)
	if err == nil {
		mutex.Lock()
		tokens[user] = token
		mutex.Unlock()
	}
	return token, err
}

func init() { token, kept = tokenOf, exchangesMax }
