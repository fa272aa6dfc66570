package comet

import (
	"reflect"
	"time"

	"github.com/cometbft/cometbft/libs/log"
)

// A ticker is CometBFT's consensus.TimeoutTicker. T stands for its description of a timeout, a type without a name outside of CometBFT; the compiler finds it by the
// methods of what capTimeouts is given.
type ticker[T any] interface {
	Start() error
	Stop() error
	Chan() <-chan T
	ScheduleTimeout(timeout T)
	SetLogger(log.Logger)
}

// cappedTicker lets no timeout be longer than most. By themselves they grow with each round and never stop: after a night in which the votes did not come together, each
// further round would take as long as it takes to wake somebody.
type cappedTicker[T any] struct {
	ticker[T]
	most time.Duration
}

// capTimeouts bounds a ticker's timeouts. T must have a field Duration, a time.Duration.
func capTimeouts[T any](t ticker[T], most time.Duration) cappedTicker[T] {
	return cappedTicker[T]{t, most}
}

// ScheduleTimeout implements CometBFT's consensus.TimeoutTicker.
func (t cappedTicker[T]) ScheduleTimeout(timeout T) {
	d := reflect.ValueOf(&timeout).Elem().FieldByName("Duration")
	d.SetInt(min(d.Int(), int64(t.most)))
	t.ticker.ScheduleTimeout(timeout)
}
