package raft

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"ledgerd/consensus"
)

// The formats are drawn in doc.go.

const (
	envelopeVersion     = 1
	envelopeHeaderBytes = 1 + 8

	frameVersion     = 1
	frameHeaderBytes = 1 + 32 + 5*8

	snapshotVersion   = 1
	snapshotDataBytes = 1 + 8 + 32
)

// appendEnvelope encodes what raft carries.
func appendEnvelope(dst []byte, unixMilli uint64, r consensus.Record) []byte {
	dst = append(dst, envelopeVersion)
	dst = binary.BigEndian.AppendUint64(dst, unixMilli)
	return consensus.AppendRecord(dst, r)
}

// decodeEnvelope is its inverse; the record's payload points into b.
func decodeEnvelope(b []byte) (consensus.Item, error) {
	if len(b) < envelopeHeaderBytes {
		return consensus.Item{}, fmt.Errorf("%w: envelope of %d bytes", consensus.ErrInvalid, len(b))
	}
	if b[0] != envelopeVersion {
		return consensus.Item{}, fmt.Errorf("%w: envelope of version %d, want %d", consensus.ErrInvalid, b[0], envelopeVersion)
	}
	r, err := consensus.DecodeRecord(b[envelopeHeaderBytes:])
	if err != nil {
		return consensus.Item{}, fmt.Errorf("envelope: %w", err)
	}
	return consensus.Item{UnixMilli: binary.BigEndian.Uint64(b[1:]), Record: r}, nil
}

// Kinds of message in a frame.
const (
	kindRaft   = 1
	kindAppend = 2
	kindRefuse = 3
)

// header is what a frame says about its sender.
type header struct {
	identity  consensus.Digest
	from, to  uint64
	unixMilli uint64
	applied   uint64
	lag       uint64
}

// message is one of a frame; which fields count depends on the kind.
type message struct {
	kind   byte
	raft   *raftpb.Message
	record consensus.Record
	key    consensus.RecordKey
}

func (h header) append(dst []byte) []byte {
	dst = append(dst, frameVersion)
	dst = append(dst, h.identity[:]...)
	for _, v := range [...]uint64{h.from, h.to, h.unixMilli, h.applied, h.lag} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	return dst
}

// decodeHeader returns the header of a frame and its messages, not decoded. The error is ErrInvalid.
func decodeHeader(b []byte) (h header, body []byte, err error) {
	switch {
	case len(b) < frameHeaderBytes:
		return header{}, nil, fmt.Errorf("%w: frame of %d bytes", consensus.ErrInvalid, len(b))
	case b[0] != frameVersion:
		return header{}, nil, fmt.Errorf("%w: frame of version %d, want %d", consensus.ErrInvalid, b[0], frameVersion)
	}
	h.identity = consensus.Digest(b[1:33])
	for i, v := range [...]*uint64{&h.from, &h.to, &h.unixMilli, &h.applied, &h.lag} {
		*v = binary.BigEndian.Uint64(b[33+8*i:])
	}
	return h, b[frameHeaderBytes:], nil
}

// appendMessage encodes a message to the end of a frame.
func appendMessage(dst []byte, m message) ([]byte, error) {
	dst = append(dst, m.kind, 0, 0, 0, 0)
	start := len(dst)
	switch m.kind {
	case kindRaft:
		var err error
		if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, m.raft); err != nil {
			return nil, fmt.Errorf("encode raft message: %w", err)
		}
	case kindAppend:
		dst = consensus.AppendRecord(dst, m.record)
	case kindRefuse:
		dst = append(dst, m.key[:]...)
	default:
		panic(fmt.Sprintf("raft: message of kind %d", m.kind))
	}
	binary.BigEndian.PutUint32(dst[start-4:], uint32(len(dst)-start))
	return dst, nil
}

// decodeMessages decodes what follows a frame's header. Records point into b. The error is ErrInvalid or ErrTooLarge.
func decodeMessages(b []byte) ([]message, error) {
	var ms []message
	for len(b) > 0 {
		if len(b) < 5 {
			return nil, fmt.Errorf("%w: %d bytes at the end of a frame", consensus.ErrInvalid, len(b))
		}
		kind, n := b[0], binary.BigEndian.Uint32(b[1:])
		if uint64(n) > uint64(len(b)-5) {
			return nil, fmt.Errorf("%w: message of %d bytes in a frame with %d left", consensus.ErrInvalid, n, len(b)-5)
		}
		m, err := decodeMessage(kind, b[5:5+n:5+n])
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
		b = b[5+n:]
	}
	return ms, nil
}

func decodeMessage(kind byte, b []byte) (message, error) {
	m := message{kind: kind}
	switch kind {
	case kindRaft:
		m.raft = &raftpb.Message{}
		if err := proto.Unmarshal(b, m.raft); err != nil {
			return message{}, fmt.Errorf("%w: raft message: %v", consensus.ErrInvalid, err)
		}
		return m, validRaft(m.raft)
	case kindAppend:
		var err error
		m.record, err = consensus.DecodeRecord(b)
		return m, err
	case kindRefuse:
		if len(b) != len(m.key) {
			return message{}, fmt.Errorf("%w: refusal of %d bytes", consensus.ErrInvalid, len(b))
		}
		m.key = consensus.RecordKey(b)
		return m, nil
	}
	return message{}, fmt.Errorf("%w: message of kind %d", consensus.ErrInvalid, kind)
}

// validRaft lets only those messages through that members send each other, and entries only in the form that this package gives them. What the
// raft library does with anything else is not ours to rely on.
func validRaft(m *raftpb.Message) error {
	switch t := m.GetType(); t {
	case raftpb.MsgApp, raftpb.MsgSnap:
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
		raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		if m.Snapshot != nil {
			return fmt.Errorf("%w: %v with a snapshot", consensus.ErrInvalid, t)
		}
	default:
		return fmt.Errorf("%w: raft message %v from a peer", consensus.ErrInvalid, t)
	}
	if len(m.GetResponses()) > 0 {
		return fmt.Errorf("%w: raft message with responses", consensus.ErrInvalid)
	}
	if m.GetType() == raftpb.MsgApp {
		return validEntries(m)
	}
	return nil
}

func validEntries(m *raftpb.Message) error {
	term := m.GetLogTerm()
	for i, e := range m.GetEntries() {
		switch {
		case e.GetType() != raftpb.EntryNormal:
			return fmt.Errorf("%w: raft entry %d is a %v", consensus.ErrInvalid, e.GetIndex(), e.GetType())
		case e.GetIndex() != m.GetIndex()+1+uint64(i):
			return fmt.Errorf("%w: raft entry %d at place %d after %d", consensus.ErrInvalid, e.GetIndex(), i, m.GetIndex())
		case e.GetTerm() < term || e.GetTerm() > m.GetTerm():
			return fmt.Errorf("%w: raft entry %d of term %d after term %d, sent in term %d", consensus.ErrInvalid, e.GetIndex(), e.GetTerm(), term, m.GetTerm())
		}
		term = e.GetTerm()
		if len(e.GetData()) > 0 {
			if _, err := decodeEnvelope(e.GetData()); err != nil {
				return fmt.Errorf("raft entry %d: %w", e.GetIndex(), err)
			}
		}
	}
	return nil
}

// place is the data of a snapshot: where in the log its raft index is.
type place struct {
	next   consensus.LSN
	digest consensus.Digest
}

func (p place) encode() []byte {
	b := make([]byte, 0, snapshotDataBytes)
	b = append(b, snapshotVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.next))
	return append(b, p.digest[:]...)
}

func decodePlace(b []byte) (place, error) {
	if len(b) != snapshotDataBytes || b[0] != snapshotVersion {
		return place{}, fmt.Errorf("%w: snapshot data of %d bytes", consensus.ErrInvalid, len(b))
	}
	return place{next: consensus.LSN(binary.BigEndian.Uint64(b[1:])), digest: consensus.Digest(b[9:])}, nil
}
