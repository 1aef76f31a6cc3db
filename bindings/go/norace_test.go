//go:build cgo && !race

package spikeauth_test

const raceEnabled = false
