package comet

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"

	"ledgerd/consensus"
)

// offences is the register of what an epoch's members were caught at: evidence that a member has signed two things for one place, which a block holds.
type offences struct {
	area   *consensus.EngineArea
	name   func(address []byte) string // of the member whose validator has an address
	logger *slog.Logger

	mu struct {
		sync.Mutex
		pieces uint64
		height int64 // of the last block that brought some
		last   string
	}
}

const offencesVersion = 1

func openOffences(area *consensus.EngineArea, name func([]byte) string, logger *slog.Logger) (*offences, error) {
	o := &offences{area: area, name: name, logger: logger}
	v, err := area.Get([]byte{keyOffences})
	if err != nil || v == nil {
		return o, err
	}
	if len(v) < 1+8+8 || v[0] != offencesVersion {
		return nil, fmt.Errorf("%w: register of offences, %d bytes", consensus.ErrCorrupt, len(v))
	}
	o.mu.pieces, o.mu.height, o.mu.last = binary.BigEndian.Uint64(v[1:]), int64(binary.BigEndian.Uint64(v[9:])), string(v[17:])
	return o, nil
}

// add enters the evidence of a block, before the block is applied: a crash leaves a prefix of what was written, so that the mark never leads the register, and a block
// that comes again is known by its height. Whoever is caught again and again gets fewer and fewer lines in the messages.
func (o *offences) add(height int64, evidence []abci.Misbehavior) error {
	v := o.enter(height, evidence)
	if v == nil {
		return nil
	}
	return o.area.Write(false, func(b *consensus.EngineBatch) error { return b.Set([]byte{keyOffences}, v) })
}

// enter returns what is to be stored; nil if nothing has changed.
func (o *offences) enter(height int64, evidence []abci.Misbehavior) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(evidence) == 0 || height <= o.mu.height {
		return nil
	}
	o.mu.height = height
	for _, m := range evidence {
		who := "member " + o.name(m.Validator.Address)
		o.mu.pieces++
		o.mu.last = fmt.Sprintf("%s: %v at height %d", who, m.Type, m.Height)
		if n := o.mu.pieces; n&(n-1) == 0 {
			o.logger.Error("a member has broken the protocol: it has signed two things for one place", "offender", who, "kind", m.Type.String(), "height", m.Height,
				"pieces", n)
		}
	}
	v := binary.BigEndian.AppendUint64([]byte{offencesVersion}, o.mu.pieces)
	return append(binary.BigEndian.AppendUint64(v, uint64(height)), o.mu.last...)
}

// sum returns how many pieces of evidence there are, and whom and what the last one is about.
func (o *offences) sum() (pieces uint64, last string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.pieces, o.mu.last
}
