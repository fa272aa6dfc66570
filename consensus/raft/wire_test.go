package raft

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"ledgerd/consensus"
)

func sampleMessages() []message {
	r := consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: 2}, Payload: []byte("payload")}
	return []message{
		{kind: kindRaft, raft: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(5)), Index: new(uint64(7)), LogTerm: new(uint64(4)),
			Entries: []*raftpb.Entry{
				{Type: raftpb.EntryNormal.Enum(), Index: new(uint64(8)), Term: new(uint64(5))},
				{Type: raftpb.EntryNormal.Enum(), Index: new(uint64(9)), Term: new(uint64(5)), Data: appendEnvelope(nil, 99, r)},
			},
		}},
		{kind: kindAppend, record: r},
		{kind: kindRefuse, key: r.Key()},
	}
}

func sampleFrame(t testing.TB) []byte {
	frame := header{identity: consensus.Digest{1, 2}, from: 1, to: 2, unixMilli: 3, applied: 4, lag: 5}.append(nil)
	var err error
	for _, m := range sampleMessages() {
		frame, err = appendMessage(frame, m)
		require.NoError(t, err)
	}
	return frame
}

func TestFrame(t *testing.T) {
	frame := sampleFrame(t)
	h, body, err := decodeHeader(frame)
	require.NoError(t, err)
	require.Equal(t, header{identity: consensus.Digest{1, 2}, from: 1, to: 2, unixMilli: 3, applied: 4, lag: 5}, h)
	ms, err := decodeMessages(body)
	require.NoError(t, err)
	want := sampleMessages()
	require.Len(t, ms, len(want))
	require.True(t, proto.Equal(want[0].raft, ms[0].raft))
	require.Equal(t, want[1:], ms[1:])
	for n := range frame { // no prefix is taken for more than the messages that are whole in it
		if h, body, err := decodeHeader(frame[:n]); err == nil {
			ms, err := decodeMessages(body)
			require.Equal(t, uint64(2), h.to)
			require.True(t, err != nil || len(ms) < len(want), "%d bytes", n)
		}
	}
}

func TestRefusedMessages(t *testing.T) {
	for name, change := range map[string]func(*raftpb.Message){
		"local type":        func(m *raftpb.Message) { m.Type = raftpb.MsgHup.Enum() },
		"storage type":      func(m *raftpb.Message) { m.Type = raftpb.MsgStorageAppend.Enum() },
		"proposal":          func(m *raftpb.Message) { m.Type = raftpb.MsgProp.Enum() },
		"transfer":          func(m *raftpb.Message) { m.Type = raftpb.MsgTransferLeader.Enum() },
		"responses":         func(m *raftpb.Message) { m.Responses = []*raftpb.Message{{}} },
		"config change":     func(m *raftpb.Message) { m.Entries[1].Type = raftpb.EntryConfChangeV2.Enum() },
		"gap":               func(m *raftpb.Message) { m.Entries[1].Index = new(uint64(10)) },
		"term goes back":    func(m *raftpb.Message) { m.Entries[1].Term = new(uint64(4)) },
		"term to come":      func(m *raftpb.Message) { m.Entries[1].Term = new(uint64(6)) },
		"unknown envelope":  func(m *raftpb.Message) { m.Entries[1].Data[0] = 77 },
		"heartbeat and all": func(m *raftpb.Message) { m.Type, m.Snapshot = raftpb.MsgHeartbeat.Enum(), &raftpb.Snapshot{} },
	} {
		m := sampleMessages()[0].raft
		require.NoError(t, validRaft(m))
		change(m)
		require.ErrorIs(t, validRaft(m), consensus.ErrInvalid, name)
	}
}

func TestClockOff(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		offsets []time.Duration
		want    time.Duration
	}{
		{[]time.Duration{0}, 0},
		{[]time.Duration{0, h}, 0}, // of two, nobody can tell
		{[]time.Duration{0, 0, h}, 0},
		{[]time.Duration{0, h, h}, h},
		{[]time.Duration{0, -h, -h}, -h},
		{[]time.Duration{0, -h, h}, 0},
		{[]time.Duration{0, h, h, h + 1}, h},
		{[]time.Duration{0, 0, h, h}, 0},
		{[]time.Duration{0, -h, -h, -2 * h, -2 * h}, -h},
	} {
		require.Equal(t, c.want, clockOff(c.offsets), "%v", c.offsets)
	}
}

// FuzzFrame: no frame makes the decoder panic, and what decodes encodes to what decodes to the same.
func FuzzFrame(f *testing.F) {
	f.Add(sampleFrame(f))
	f.Add(header{}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := decodeHeader(b)
		if err != nil {
			return
		}
		ms, err := decodeMessages(body)
		if err != nil {
			return
		}
		again := h.append(nil)
		for _, m := range ms {
			again, err = appendMessage(again, m)
			require.NoError(t, err)
		}
		h2, body2, err := decodeHeader(again)
		require.NoError(t, err)
		require.Equal(t, h, h2)
		ms2, err := decodeMessages(body2)
		require.NoError(t, err)
		require.Len(t, ms2, len(ms))
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add(appendEnvelope(nil, 5, sampleMessages()[1].record))
	f.Fuzz(func(t *testing.T, b []byte) {
		item, err := decodeEnvelope(b)
		if err == nil && !bytes.Equal(b, appendEnvelope(nil, item.UnixMilli, item.Record)) {
			t.Fatalf("%x has another encoding", b)
		}
	})
}

func FuzzPlace(f *testing.F) {
	f.Add(place{next: 7}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePlace(b)
		if err == nil && !bytes.Equal(b, p.encode()) {
			t.Fatalf("%x has another encoding", b)
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add([]byte("01234567\x00data"))
	f.Add([]byte("01234567\x0101234567"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, lsn, err := decodeSlot(3, b)
		if err == nil && lsn != 0 && len(e.GetData()) > 0 {
			t.Fatal("a reference with data")
		}
	})
}
