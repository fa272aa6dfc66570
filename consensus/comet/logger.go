package comet

import (
	"context"
	"fmt"
	"log/slog"

	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// A logger hands CometBFT's words on. What it takes for an event of its own every few milliseconds is detail here; what it calls an error is most often a
// peer that has gone away, and nothing that a person has to see to.
type logger struct {
	l      *slog.Logger
	failed func(reason string) // its consensus has panicked
}

var _ cmtlog.Logger = logger{}

// consensusFailure is what CometBFT says when it catches a panic of its consensus, which has ended then.
const consensusFailure = "CONSENSUS FAILURE!!!"

// Debug implements cmtlog.Logger. It is not let through: CometBFT's debug output has a line for each vote.
func (logger) Debug(string, ...any) {}

// Info implements cmtlog.Logger.
func (l logger) Info(msg string, keyvals ...any) { l.log(slog.LevelDebug, msg, keyvals) }

// Error implements cmtlog.Logger.
func (l logger) Error(msg string, keyvals ...any) {
	level := slog.LevelInfo
	if msg == consensusFailure {
		level = slog.LevelError
		l.failed(fmt.Sprint(value(keyvals, "err")))
	}
	l.log(level, msg, keyvals)
}

// With implements cmtlog.Logger.
func (l logger) With(keyvals ...any) cmtlog.Logger {
	return logger{l.l.With(printed(keyvals)...), l.failed}
}

func (l logger) log(level slog.Level, msg string, keyvals []any) {
	if l.l.Enabled(context.Background(), level) {
		l.l.Log(context.Background(), level, "comet: "+msg, printed(keyvals)...)
	}
}

// printed makes text of the values, which are not safe to be looked at later.
func printed(keyvals []any) []any {
	out := make([]any, len(keyvals))
	for i, v := range keyvals {
		if out[i] = v; i%2 == 1 {
			out[i] = fmt.Sprint(v)
		}
	}
	return out
}

func value(keyvals []any, key string) any {
	for i := 0; i+1 < len(keyvals); i += 2 {
		if keyvals[i] == key {
			return keyvals[i+1]
		}
	}
	return nil
}
