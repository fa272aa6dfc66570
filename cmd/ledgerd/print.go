package main

import (
	"encoding/json"
	"io"
)

// print writes v to stdout as indented JSON, or whatever text writes.
func (c console) print(asJSON bool, v any, text func(io.Writer)) error {
	if !asJSON {
		text(c.stdout)
		return nil
	}
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
