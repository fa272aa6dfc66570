// Package protocol is what the feed's server and its clients say to each other: cursors, filters, messages and error codes. docs/feed.md
// describes it for people, schema.json (embedded as Schema) for programs. It imports nothing of the node, so that a client does not either.
package protocol

import _ "embed"

// Schema is the JSON Schema (draft 2020-12) of every message, in both directions.
//
//go:embed schema.json
var Schema []byte
