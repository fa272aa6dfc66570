package rpc

import (
	"context"
	"encoding/json"
	"io"

	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// newCodec does what go-ethereum's NewCodec does, but for one thing: that one keeps the buffers of its longest message and of its longest answer for the life of the
// connection, so that a websocket which once had an answer of 60 MiB costs as much for as long as it stays. Here they are encoding/json's, which go back to it.
//
// codec is gethrpc.NewFuncCodec; its types for a message (M) and for what it closes (C), which stream must implement, have no names outside of go-ethereum, and are
// inferred. Each message is one Write, and what one Read returns has to belong to one message.
func newCodec[C, M any](
	codec func(conn C, message func(context.Context, M, bool) error, batch func(context.Context, []M, bool) error, decode func(any) error) gethrpc.ServerCodec,
	stream io.ReadWriteCloser,
) gethrpc.ServerCodec {
	return codec(
		stream.(C),
		func(_ context.Context, m M, _ bool) error { return encodeTo(stream, m) },
		func(_ context.Context, batch []M, _ bool) error { return encodeTo(stream, batch) },
		func(v any) error { return json.NewDecoder(stream).Decode(v) },
	)
}

func encodeTo(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
