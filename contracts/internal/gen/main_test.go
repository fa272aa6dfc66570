package main

import (
	"bytes"
	"os"
	"testing"
)

// Invariant 5, second half: the committed bindings are those of the committed artifacts.
func TestBindingsAreFresh(t *testing.T) {
	const dir = "../.."
	for _, contract := range bound {
		want, err := generate(dir, contract)
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(bindingFile(dir, contract))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is stale: run `go generate ./contracts/...`", bindingFile("contracts", contract))
		}
	}
}
