package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFresh: what is committed is what the source says.
func TestFresh(t *testing.T) {
	require.NoError(t, run("../..", true))
}

// TestExtract: a small package, and that a difference is found.
func TestExtract(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("a.go", `package p

import "context"

// thingAPI is not a form.
type thingAPI struct{ n int }

// GetThing returns
// a thing.
//
// Slowly.
func (api *thingAPI) GetThing(ctx context.Context, a, b int, _ string) (*form, error) { return nil, nil }

func (api thingAPI) Bare(int) {}
func (api *thingAPI) hidden() {}
func (o other) Foreign() {}

// form is an answer.
type form struct {
	// A is above.
	A int `+"`json:\"a\"`"+`
	B int `+"`json:\"b\"`"+` // behind
	c int
}

type other struct{ D int } // without tags
`)
	write("a_test.go", "package p\n// Test is no method.\nfunc (api *thingAPI) Test() {}")
	text, err := Extract(dir)
	require.NoError(t, err)
	var doc Document
	require.NoError(t, json.Unmarshal(text, &doc))
	require.Equal(t, Document{
		Methods: map[string]Method{
			"thingAPI.GetThing": {Doc: "GetThing returns a thing.\n\nSlowly.", Params: []string{"a", "b", "_"}},
			"thingAPI.Bare":     {Params: []string{""}},
		},
		Types: map[string]Type{"form": {Doc: "form is an answer.", Fields: map[string]string{"A": "A is above.", "B": "behind"}}},
	}, doc)

	require.ErrorIs(t, run(dir, true), os.ErrNotExist)
	require.NoError(t, run(dir, false))
	require.NoError(t, run(dir, true))
	write("b.go", "package p\nfunc (api *thingAPI) New() {}")
	require.ErrorContains(t, run(dir, true), "stale")
	write("b.go", "package")
	require.Error(t, run(dir, true))
}
