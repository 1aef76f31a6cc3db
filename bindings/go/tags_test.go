//go:build cgo && !spikeauth_static

package spikeauth_test

const buildTags = ""
