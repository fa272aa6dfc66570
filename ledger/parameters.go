package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// Parameters are what every block has and what may change while the chain runs. The genesis file has the first ones; each segment of the log
// may bring others, in force from its base LSN on.
type Parameters struct {
	GasLimit uint64         // the real cap of a block
	BaseFee  *uint256.Int   // of every block, in wei; not changed once it is here
	Coinbase common.Address // is paid the tips
}

// ParameterChange is what the ledger makes of consensus.Spec.Ledger. What is nil stays what it was in the segment before.
type ParameterChange struct {
	GasLimit *uint64
	BaseFee  *uint256.Int
	Coinbase *common.Address
}

// The names in the JSON object that a ParameterChange is written as.
const (
	keyGasLimit = "gasLimit"
	keyBaseFee  = "baseFee"
	keyCoinbase = "coinbase"
)

// ErrBadParameters means that what a spec has for the ledger is not a ParameterChange, or one that no chain may have.
var ErrBadParameters = errors.New("bad ledger parameters")

// ValidateParams returns an ErrBadParameters unless raw, the Ledger field of a spec, is something that the ledger can follow. Whoever proposes a
// spec asks first: what is in a valid Seal can no longer be refused, and every replica then leaves the parameters as they were.
func ValidateParams(raw []byte) error {
	_, err := DecodeParameterChange(raw)
	return err
}

// DecodeParameterChange decodes and validates the Ledger field of a spec. No bytes change nothing; otherwise it is a JSON object with any of
//
//	{"gasLimit": "0x8f0d180", "baseFee": "0x3b9aca00", "coinbase": "0x…20 bytes"}
//
// each at most once and spelled like this, numbers without leading zeros as everywhere in JSON-RPC. It is read token by token: encoding/json
// would take other spellings of a key and the last of two values, and every replica has to read the same. The error is ErrBadParameters.
func DecodeParameterChange(raw []byte) (ParameterChange, error) {
	c, err := decodeParameterChange(raw)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return ParameterChange{}, fmt.Errorf("%w: %w", ErrBadParameters, err)
	}
	return c, nil
}

func decodeParameterChange(raw []byte) (c ParameterChange, err error) {
	if len(raw) == 0 {
		return c, nil
	}
	if !utf8.Valid(raw) {
		return c, errors.New("not UTF-8")
	}
	tokens := json.NewDecoder(bytes.NewReader(raw))
	if t, err := tokens.Token(); err != nil || t != json.Delim('{') {
		return c, errors.New("not a JSON object")
	}
	for tokens.More() {
		key, err := tokens.Token()
		if err != nil {
			return c, err
		}
		value, err := tokens.Token()
		if err != nil {
			return c, err
		}
		text, ok := value.(string)
		if !ok {
			return c, fmt.Errorf("%v: %v is not a string", key, value)
		}
		if err := c.set(key.(string), text); err != nil {
			return c, fmt.Errorf("%v: %w", key, err)
		}
	}
	if _, err := tokens.Token(); err != nil {
		return c, err
	}
	if _, err := tokens.Token(); err != io.EOF {
		return c, errors.New("more follows after the JSON object")
	}
	return c, nil
}

func (c *ParameterChange) set(key, text string) error {
	twice := false
	switch key {
	case keyGasLimit:
		v, err := hexutil.DecodeUint64(text)
		if err != nil {
			return err
		}
		twice, c.GasLimit = c.GasLimit != nil, &v
	case keyBaseFee:
		v, err := hexutil.DecodeBig(text) // of at most 256 bits
		if err != nil {
			return err
		}
		twice, c.BaseFee = c.BaseFee != nil, uint256.MustFromBig(v)
	case keyCoinbase:
		v, err := hexutil.Decode(text)
		if err != nil {
			return err
		}
		if len(v) != common.AddressLength {
			return fmt.Errorf("%d bytes are not an address", len(v))
		}
		address := common.BytesToAddress(v)
		twice, c.Coinbase = c.Coinbase != nil, &address
	default:
		return errors.New("unknown parameter")
	}
	if twice {
		return errors.New("is there twice")
	}
	return nil
}

// validate holds a change to the bounds that a genesis file has.
func (c ParameterChange) validate() error {
	if c.GasLimit != nil && *c.GasLimit < genesis.MinGasLimit {
		return fmt.Errorf("%s: %d is below %d, the largest transaction (EIP-7825)", keyGasLimit, *c.GasLimit, uint64(genesis.MinGasLimit))
	}
	return nil
}

// Encode returns the change as the Ledger field of a spec: nil if it changes nothing. It does not validate.
func (c ParameterChange) Encode() []byte {
	fields := make(map[string]string, 3)
	if c.GasLimit != nil {
		fields[keyGasLimit] = hexutil.EncodeUint64(*c.GasLimit)
	}
	if c.BaseFee != nil {
		fields[keyBaseFee] = c.BaseFee.Hex()
	}
	if c.Coinbase != nil {
		fields[keyCoinbase] = hexutil.Encode(c.Coinbase[:])
	}
	if len(fields) == 0 {
		return nil
	}
	raw, err := json.Marshal(fields) // with its keys sorted
	if err != nil {
		panic(fmt.Sprintf("ledger: strings do not marshal: %v", err))
	}
	return raw
}

// with returns p after a change.
func (p Parameters) with(c ParameterChange) Parameters {
	if c.GasLimit != nil {
		p.GasLimit = *c.GasLimit
	}
	if c.BaseFee != nil {
		p.BaseFee = c.BaseFee
	}
	if c.Coinbase != nil {
		p.Coinbase = *c.Coinbase
	}
	return p
}

// show returns h as the pool is to see it: with the gas limit and the base fee of the block that follows, if they are others. A chain on which
// nobody may send at the old fee any more would otherwise wait for ever for the block that announces the new one.
func (p Parameters) show(h *types.Header) *types.Header {
	if h.GasLimit == p.GasLimit && h.BaseFee != nil && p.BaseFee.CmpBig(h.BaseFee) == 0 {
		return h
	}
	h = types.CopyHeader(h)
	h.GasLimit, h.BaseFee = p.GasLimit, p.BaseFee.ToBig()
	return h
}

// parametersOf returns the parameters that h's block was made with, and the epoch whose they are. They are in the header, so they need no place of
// their own in the store, come with every snapshot, and are the same in a crashed node's own bodies. A block that is not from a log does not
// count: an imported one has the fees and the miner of another network. What the genesis file says is of the first epoch.
func (l *Ledger) parametersOf(h *types.Header) (Parameters, consensus.Epoch) {
	if l.genesis.Ledgerd.Imported {
		return Parameters{GasLimit: h.GasLimit, BaseFee: uint256.MustFromBig(l.BaseFeeAfter(h)), Coinbase: h.Coinbase}, 1
	}
	position, ok := PositionOf(h)
	if !ok {
		return Parameters{GasLimit: l.genesis.GasLimit, BaseFee: l.genesis.FixedBaseFee(), Coinbase: l.genesis.Coinbase}, 1
	}
	return Parameters{GasLimit: h.GasLimit, BaseFee: uint256.MustFromBig(h.BaseFee), Coinbase: h.Coinbase}, position.Epoch
}

// enter puts the parameters of an epoch in force, for the next block and for whoever asks what that will have. They are those in force now with the
// changes of all segments up to that epoch, of which some may have had no block. The caller holds exec.
func (l *Ledger) enter(epoch consensus.Epoch) error {
	if epoch <= l.exec.epoch {
		return nil
	}
	if l.exec.segments == nil {
		return fmt.Errorf("ledger: entry of epoch %d: nobody has told of a segment after epoch %d", epoch, l.exec.epoch)
	}
	segments := l.exec.segments() // dense, and beginning with epoch 1
	if uint64(len(segments)) < uint64(epoch) {
		return fmt.Errorf("ledger: entry of epoch %d: the log's chain has %d segments", epoch, len(segments))
	}
	next := l.exec.parameters
	for _, seg := range segments[l.exec.epoch:epoch] {
		next = l.follow(next, seg)
	}
	l.exec.parameters, l.exec.epoch = next, epoch
	return l.writer.hand(&executed{next: &next, published: make(chan struct{})})
}

// follow returns p after what seg changes. Parameters that do not decode change nothing, here as on every other replica.
func (l *Ledger) follow(p Parameters, seg consensus.Segment) Parameters {
	change, err := DecodeParameterChange(seg.Spec.Ledger)
	if err != nil {
		l.opts.Logger.Error("segment leaves the parameters as they were", "segment", uint64(seg.Epoch), "err", err)
		return p
	}
	next := p.with(change)
	if len(seg.Spec.Ledger) > 0 {
		l.opts.Logger.Info("ledger parameters", "segment", uint64(seg.Epoch), "lsn", uint64(seg.Base), "gasLimit", next.GasLimit, "baseFee", next.BaseFee,
			"coinbase", next.Coinbase)
	}
	return next
}

// enterAt enters the segment that the entry after lsn belongs to, if the log has begun it: so that what the next block will have is known before
// there is one. The caller holds exec.
func (l *Ledger) enterAt(lsn consensus.LSN) error {
	if l.exec.segments == nil {
		return nil
	}
	epoch := l.exec.epoch
	for _, seg := range l.exec.segments() {
		if seg.Base <= lsn+1 {
			epoch = max(epoch, seg.Epoch)
		}
	}
	return l.enter(epoch)
}
