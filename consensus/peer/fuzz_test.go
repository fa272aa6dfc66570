package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
)

// FuzzFrames decodes what a member sends and takes it: nothing is delivered but what that member sent, in this epoch, to this node.
func FuzzFrames(f *testing.F) {
	seg := consensus.Segment{Identity: identity(1)}
	for id := uint64(1); id <= 3; id++ {
		seg.Spec.Members = append(seg.Spec.Members, consensus.Member{ID: id, NodeKey: publicOf(id)})
	}
	directory := NewDirectory()
	directory.Set(View{Segments: []consensus.Segment{seg}})
	node, err := Listen(Options{Key: testKey(1), Network: testNetwork, Roster: directory, Address: "127.0.0.1:0", MaxFrameBytes: 64})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, node.Close()) })
	m := &Membership{node: node, identity: seg.Identity, self: 1, members: map[uint64]publicKey{}}
	for _, member := range seg.Spec.Members {
		m.members[member.ID] = publicKey(member.NodeKey)
	}
	node.mu.joined[seg.Identity] = m

	add := func(frames ...*peerpb.Frame) {
		b, err := proto.Marshal(&peerpb.Frames{Frames: frames})
		require.NoError(f, err)
		f.Add(b)
	}
	add(&peerpb.Frame{Epoch: seg.Identity[:], From: 2, To: 1, Frame: []byte("good")}, &peerpb.Frame{Epoch: seg.Identity[:], From: 3, To: 1})
	add(&peerpb.Frame{Epoch: seg.Identity[:31], From: 2, To: 1})
	add(&peerpb.Frame{Epoch: make([]byte, 32), From: 2, To: 1}, &peerpb.Frame{Epoch: seg.Identity[:], To: 1, Frame: make([]byte, 65)})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	rights := directory.Rights(publicOf(2))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames := &peerpb.Frames{}
		if proto.Unmarshal(b, frames) != nil {
			return
		}
		var want, got [][]byte
		for _, frame := range frames.GetFrames() {
			if len(frame.GetEpoch()) != 32 {
				break // the stream ends here
			}
			if bytes.Equal(frame.GetEpoch(), seg.Identity[:]) && frame.GetFrom() == 2 && frame.GetTo() == 1 && len(frame.GetFrame()) <= 64 {
				want = append(want, frame.GetFrame())
			}
		}
		m.deliver = func(frame []byte) { got = append(got, frame) }
		s := &session{key: publicKey(publicOf(2))}
		s.rights.Store(&rights)
		err := node.take(s, frames)
		if err != nil && !errors.Is(err, consensus.ErrInvalid) {
			t.Fatal(err)
		}
		if len(want) != len(got) {
			t.Fatalf("delivered %d frames, want %d", len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(want[i], got[i]) {
				t.Fatalf("frame %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// FuzzEntries decodes an answer: what comes out is dense, in bounds, and encodes to what came in.
func FuzzEntries(f *testing.F) {
	e := consensus.Entry{LSN: 5, Epoch: 1, UnixMilli: 7, Record: record(1)}
	next := e
	next.LSN = 6
	b, err := proto.Marshal(encodeEntries([]consensus.Entry{e, next}))
	require.NoError(f, err)
	f.Add(b, uint64(5), uint64(7))
	f.Add(b, uint64(5), uint64(6))
	f.Add(b, uint64(4), uint64(0))
	f.Add([]byte{}, uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, from, end uint64) {
		in := &peerpb.Entries{}
		if proto.Unmarshal(b, in) != nil {
			return
		}
		entries, err := decodeEntries(in, consensus.LSN(from), consensus.LSN(end))
		if err != nil {
			return
		}
		if len(entries) == 0 {
			t.Fatal("no entries and no error")
		}
		for i, e := range entries {
			if e.LSN != consensus.LSN(from)+consensus.LSN(i) || end != 0 && e.LSN >= consensus.LSN(end) {
				t.Fatalf("entry %d in the place of %d, end %d", e.LSN, from+uint64(i), end)
			}
		}
		if again := encodeEntries(entries); !proto.Equal(again, &peerpb.Entries{Entries: in.GetEntries()}) {
			t.Fatal("does not encode to what was decoded")
		}
	})
}

// FuzzFailure reads the detail of an error.
func FuzzFailure(f *testing.F) {
	for _, w := range wire {
		b, err := proto.Marshal(&peerpb.Failure{Kinds: []peerpb.Failure_Kind{w.kind, w.kind}, Lsn: 3})
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte{0x08, 0x63}) // a kind of the future
	f.Fuzz(func(t *testing.T, b []byte) {
		failure := &peerpb.Failure{}
		if proto.Unmarshal(b, failure) != nil {
			return
		}
		kinds := kindsOf(failure, "text")
		if len(kinds) > len(wire) {
			t.Fatalf("%d kinds of %d", len(kinds), len(wire))
		}
		for _, kind := range kinds {
			if kind == nil || kind.Error() == "" {
				t.Fatalf("kind %v", kind)
			}
		}
	})
}

// FuzzMessageReader: whatever the sizes of reads and writes, the same bytes come out, and a read does not go past a message.
func FuzzMessageReader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01x"), uint8(4))
	f.Add([]byte("\x00\x00\x00\x00\x03ab"), uint8(200))
	f.Add([]byte("\x00\xff\xff\xff\xffabcdefgh"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		r := &messageReader{ReadCloser: io.NopCloser(bytes.NewReader(b))}
		buf := make([]byte, int(size)+1)
		var got []byte
		for {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				if whole := len(got) == len(b); whole != errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%d bytes of %d, then %v", len(got), len(b), err)
				}
				break
			}
			if n == 0 {
				t.Fatal("nothing, and no error")
			}
		}
		// What a prefix that is cut off has begun is not handed out: there is no message to go with it.
		if !bytes.HasPrefix(b, got) || len(b)-len(got) >= 5 {
			t.Fatalf("%q of %q", got, b)
		}
	})
}
