package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	gethlog "github.com/ethereum/go-ethereum/log"
)

// newLogger makes the logger of a node. format and level are those that config.Validate lets through.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("log level %q: %w", level, err)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("log format %q: want text or json", format)
}

// adoptLibraryLogs routes what go-ethereum's storage logs, through a logger that is global there, into ours.
func adoptLibraryLogs(logger *slog.Logger, exit func(exitCode)) {
	gethlog.SetDefault(gethlog.NewLogger(libraryHandler{logger.Handler().WithAttrs([]slog.Attr{slog.String("part", "go-ethereum")}), exit}))
}

// expected are warnings of a library about what is as it should be here.
var expected = map[string]bool{
	// The freezer of old blocks starts before a new store has its genesis.
	"Head block is not reachable": true,
}

// libraryHandler lowers a library's routine messages by one level: what is news in a program whose purpose is the
// database is detail in ours. Its "crit" level announces that the library is about to end the process with
// code 1, for a database that cannot be written; the handler ends it first, with the code for that.
type libraryHandler struct {
	slog.Handler
	exit func(exitCode)
}

func (h libraryHandler) level(l slog.Level) slog.Level {
	switch {
	case l >= gethlog.LevelCrit:
		return slog.LevelError
	case l >= slog.LevelWarn:
		return l
	}
	return l - (slog.LevelInfo - slog.LevelDebug)
}

// Enabled implements slog.Handler.
func (h libraryHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= gethlog.LevelCrit || h.Handler.Enabled(ctx, h.level(l))
}

// Handle implements slog.Handler.
func (h libraryHandler) Handle(ctx context.Context, r slog.Record) error {
	if expected[r.Message] {
		return nil
	}
	crit := r.Level >= gethlog.LevelCrit
	r.Level = h.level(r.Level)
	if strings.HasPrefix(r.Message, "Served ") {
		r.Level = slog.LevelDebug // a request that was refused: any client can make these, and its answer says the same
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	err := h.Handler.Handle(ctx, r)
	if crit {
		h.exit(exitStorage)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h libraryHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return libraryHandler{h.Handler.WithAttrs(attrs), h.exit}
}

// WithGroup implements slog.Handler.
func (h libraryHandler) WithGroup(name string) slog.Handler {
	return libraryHandler{h.Handler.WithGroup(name), h.exit}
}

// die ends the process after a failure of storage. Deferred work is skipped on purpose: after a failed write there is
// nothing left that could be closed cleanly, and nothing more may be acknowledged.
func die(logger *slog.Logger) func(error) {
	return func(err error) {
		logger.Error("storage failed; the process ends so that nothing is acknowledged that may not be there", "err", err)
		fmt.Fprintf(os.Stderr, "ledgerd: %v\n", err)
		os.Exit(int(exitStorage))
	}
}
