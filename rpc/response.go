package rpc

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// codeResponseTooLarge is go-ethereum's for a batch whose answers pass the limit.
const codeResponseTooLarge = -32003

// limitResponse returns an answer of JSON-RPC, or in its place an error with the same id if it is longer than limit. Batches and notifications have
// bounds of their own.
func limitResponse(answer []byte, limit int) []byte {
	if len(answer) <= limit || len(answer) == 0 || answer[0] != '{' {
		return answer
	}
	id, ok := idOf(answer)
	if !ok {
		return answer
	}
	return errorAnswer(id, codeResponseTooLarge, "response too large: "+strconv.Itoa(len(answer))+" bytes, at most "+strconv.Itoa(limit))
}

// errorAnswer is an answer that go-ethereum's server did not make.
func errorAnswer(id json.RawMessage, code int, message string) []byte {
	return encode(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   any             `json:"error"`
	}{"2.0", id, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, message}})
}

// idOf reads the id, which go-ethereum writes before the result.
func idOf(answer []byte) (id json.RawMessage, ok bool) {
	d := json.NewDecoder(bytes.NewReader(answer))
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil || key == "result" || key == "error" || key == "method" {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		if key == "id" {
			return value, true
		}
	}
	return nil, false
}

// limitedWriter is Server.sending for HTTP, where go-ethereum writes an answer as one piece, after its length.
type limitedWriter struct {
	http.ResponseWriter
	server *Server
	client string
}

func (w *limitedWriter) Write(answer []byte) (int, error) {
	limited, done := w.server.sending(w.client, answer)
	defer done()
	if len(limited) != len(answer) {
		w.Header().Set("Content-Length", strconv.Itoa(len(limited)))
	}
	if _, err := w.ResponseWriter.Write(limited); err != nil {
		return 0, err
	}
	return len(answer), nil
}

// Flush implements http.Flusher: go-ethereum wants an error out before the connection is closed for its slowness.
func (w *limitedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// minZipBytes is the length from which an answer is compressed: below it, it fits into one packet anyway.
const minZipBytes = 1400

var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return z
}}

// zipWriter compresses an answer for a client that takes it so. Whether it does is decided at the first write.
type zipWriter struct {
	http.ResponseWriter
	accepted bool
	decided  bool
	zip      *gzip.Writer // nil: not compressed
}

func newZipWriter(w http.ResponseWriter, r *http.Request) *zipWriter {
	return &zipWriter{ResponseWriter: w, accepted: acceptsGzip(r.Header.Values("Accept-Encoding"))}
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3).
func acceptsGzip(values []string) bool {
	for _, part := range strings.Split(strings.Join(values, ","), ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if coding = strings.TrimSpace(coding); coding != "gzip" && coding != "*" {
			continue
		}
		_, q, weighted := strings.Cut(weight, "=")
		if v, err := strconv.ParseFloat(strings.TrimSpace(q), 64); !weighted || (err == nil && v > 0) {
			return true
		}
	}
	return false
}

func (w *zipWriter) Write(p []byte) (int, error) {
	if !w.decided {
		w.decide(len(p))
	}
	if w.zip != nil {
		return w.zip.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

func (w *zipWriter) decide(length int) {
	w.decided = true
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	// "identity" is how go-ethereum says that the answer has to leave as it is, with its length.
	if identity := h.Get("Transfer-Encoding") == "identity"; identity {
		h.Del("Transfer-Encoding")
		return
	}
	if !w.accepted || length < minZipBytes {
		return
	}
	h.Del("Content-Length")
	h.Set("Content-Encoding", "gzip")
	w.zip = zippers.Get().(*gzip.Writer)
	w.zip.Reset(w.ResponseWriter)
}

// Unwrap is for http.ResponseController.
func (w *zipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Close ends the answer.
func (w *zipWriter) Close() error {
	if w.zip == nil {
		return nil
	}
	err := w.zip.Close()
	zippers.Put(w.zip)
	w.zip = nil
	return err
}
