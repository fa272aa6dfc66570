package consensus

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// An LSN is a position in the VirtualLog. LSNs are dense and start at 1; 0 stands for "before the first entry".
type LSN uint64

// An Offset is a position inside one loglet, dense from 0. The entry at an offset has LSN = Segment.Base + offset.
type Offset uint64

// An Epoch numbers a segment in the chain, from 1.
type Epoch uint64

// A Digest is the SHA-256 hash that stands for the log up to and including one entry; doc.go draws what goes into it.
type Digest [32]byte

func (d Digest) String() string               { return hex.EncodeToString(d[:]) }
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText takes the 64 hexadecimal digits that MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error { return unmarshalHex32((*[32]byte)(d), text) }

// A NetworkID names a network: the hash of its whole genesis file. It is digest(0), so the logs of two networks differ from their first entry on.
type NetworkID [32]byte

func (id NetworkID) String() string               { return hex.EncodeToString(id[:]) }
func (id NetworkID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText takes the 64 hexadecimal digits that MarshalText writes.
func (id *NetworkID) UnmarshalText(text []byte) error { return unmarshalHex32((*[32]byte)(id), text) }

func unmarshalHex32(dst *[32]byte, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: want %d hexadecimal digits, have %d", ErrInvalid, hex.EncodedLen(len(dst)), len(text))
	}
	var b [32]byte
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	*dst = b
	return nil
}

// A RecordID makes a record unlike every other one that is appended, so that appending it again is harmless. Session is drawn at random by each appender at
// its start (NewSession), Seq counts that appender's records. The zero id is not valid: it is what a forgotten one looks like. Whoever has seen an id can
// write it into a record of his own: what the log goes by is the RecordKey.
type RecordID struct {
	Session uint64 `json:"session"`
	Seq     uint64 `json:"seq"`
}

func (id RecordID) String() string { return fmt.Sprintf("%016x-%d", id.Session, id.Seq) }

// NewSession draws a session number, never 0.
func NewSession() (uint64, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw a session: %w", err)
		}
		if s := binary.BigEndian.Uint64(b[:]); s != 0 {
			return s, nil
		}
	}
}

// A RecordKey is what the log knows a record by: two records with the same key are one record, appended twice. It is a hash (Record.Key), so that nobody can make
// another record with the key of one that he has seen, or foresees.
type RecordKey [16]byte

func (k RecordKey) String() string { return hex.EncodeToString(k[:]) }

// AppLog is the application name of the log's own records: Seal, Base and Claim.
const AppLog = "log"

// Bounds of a record.
const (
	MaxRecordBytes = 1 << 20 // of the encoded record, header included (RecordSize)
	MaxAppBytes    = 64
)

// A Record is what an application appends.
type Record struct {
	App     string // whose record it is: 1 to 64 bytes of [a-z0-9-]
	ID      RecordID
	Payload []byte // opaque; may be empty. Never modified once it was handed to Append or received from a read
}

// Validate returns ErrInvalid or ErrTooLarge, with the reason, for a record that no log accepts.
func (r Record) Validate() error {
	if err := validName("app", r.App, MaxAppBytes); err != nil {
		return err
	}
	if r.ID == (RecordID{}) {
		return fmt.Errorf("%w: record without an id", ErrInvalid)
	}
	if n := r.Size(); n > MaxRecordBytes {
		return fmt.Errorf("%w: %d bytes encoded, the limit is %d", ErrTooLarge, n, MaxRecordBytes)
	}
	return nil
}

func validName(what, s string, max int) error {
	if len(s) == 0 || len(s) > max {
		return fmt.Errorf("%w: %s of %d bytes, want 1 to %d", ErrInvalid, what, len(s), max)
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%w: %s %q has a byte outside [a-z0-9-]", ErrInvalid, what, s)
		}
	}
	return nil
}

// An Entry is an ordered record.
type Entry struct {
	LSN       LSN
	Epoch     Epoch  // of the segment that ordered it
	UnixMilli uint64 // the log's clock: never decreases from one entry to the next (invariant 5)
	Record    Record
	Digest    Digest // of the log up to and including this entry (invariant 3)
}

// A Spec says how a segment is ordered, by whom, and who may end it. It is part of a Request and so of what administrators sign.
type Spec struct {
	Engine    string              // "local", "raft", "comet": a word that `cmd` knows
	Faults    FaultModel          // what the engine bears; how many members make a quorum follows from it
	Params    map[string]string   // of the engine
	Members   []Member            // who orders; in the order given
	Admins    []ed25519.PublicKey // who may sign the request for the next segment
	Threshold int                 // how many of them it takes; 0 with no admins: the segment can never be sealed
	Ledger    []byte              // opaque parameters of the application, in force from the segment's base
}

// A FaultModel says what members may do wrong without harm, as long as not too many do.
type FaultModel uint8

const (
	CrashFaults     FaultModel = iota // stop, and come back: all but a majority may
	ByzantineFaults                   // anything: less than a third may
)

func (f FaultModel) String() string { return [...]string{"crash", "byzantine"}[f&1] }

// A Member is a node that takes part in ordering.
type Member struct {
	ID             uint64            // not 0, unique in the spec; a member that lost its disk comes back under a new one
	NodeKey        ed25519.PublicKey // transport identity; may be absent where the engine has no peers
	ConsensusKey   ed25519.PublicKey // votes; may be absent where the engine has no votes
	PeerAddress    string            // host:port
	CometAddresses [2]string         // CometBFT p2p addresses of even and odd epochs
}

// A Segment is one link of the chain: a loglet, given by its Spec, at its place in the log.
type Segment struct {
	Network       NetworkID
	Epoch         Epoch
	Recovery      uint64 // Count of the Recovery that began the segment; 0: a Seal did, or the genesis
	Base          LSN    // of the segment's first entry, the one at offset 0
	BaseDigest    Digest // digest(Base-1)
	BaseUnixMilli uint64 // the log's clock at Base-1; 0 in the first segment
	Identity      Digest // names this epoch to its engine: EpochIdentity
	Spec          Spec
}

// LSN returns the position in the log of an offset in the segment.
func (s Segment) LSN(o Offset) LSN { return s.Base + LSN(o) }

// Offset returns the offset in the segment of a position in the log, which must not lie before its base.
func (s Segment) Offset(lsn LSN) Offset {
	if lsn < s.Base {
		panic(fmt.Sprintf("consensus: lsn %d lies before the base %d of epoch %d", lsn, s.Base, s.Epoch))
	}
	return Offset(lsn - s.Base)
}
