package consensus

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// TestSequencer plays the dialogues in testdata/sequencer. Commands:
//
//	new window=N [epoch=E base=B millis=M]
//	next t=MILLIS id=N [app=A]        one item; app=seal is a good Seal for the next epoch, app=badseal one with too few signatures
//	state
//	segment                           go on in the segment that the last Seal opened
func TestSequencer(t *testing.T) {
	datadriven.Walk(t, "testdata/sequencer", func(t *testing.T, path string) {
		c := newChain()
		var s *Sequencer
		var opened *Segment
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "new":
				var window int
				d.ScanArgs(t, "window", &window)
				seg := c.segment()
				s = NewSequencer(seg, State{Next: seg.Base, Digest: seg.BaseDigest, Window: NewWindow(window, seg.Base)})
			case "next":
				return describe(next(t, d, c, s, &opened))
			case "state":
				st := s.State()
				return fmt.Sprintf("next=%d millis=%d sealed=%v window=[%d,%d) digest=%v", st.Next, st.UnixMilli, st.Sealed, st.Window.first, st.Window.next, st.Digest)
			case "segment":
				st := s.State()
				st.Sealed = false
				s = NewSequencer(*opened, st)
				return fmt.Sprintf("epoch=%d base=%d millis=%d", opened.Epoch, opened.Base, opened.BaseUnixMilli)
			default:
				d.Fatalf(t, "unknown command")
			}
			return ""
		})
	})
}

func next(t *testing.T, d *datadriven.TestData, c chain, s *Sequencer, opened **Segment) Verdict {
	var millis, id uint64
	app := "app"
	d.ScanArgs(t, "t", &millis)
	d.ScanArgs(t, "id", &id)
	d.MaybeScanArgs(t, "app", &app)
	r := Record{App: app, ID: RecordID{Session: 1, Seq: id}, Payload: []byte("x")}
	if id == 0 {
		r.ID = RecordID{}
	}
	switch app {
	case "seal":
		r = c.seal(s.seg.Epoch + 1).Record()
	case "base":
		r = BaseRecord(s.seg)
	case "otherbase":
		other := s.seg
		other.BaseDigest[0]++
		r = BaseRecord(other)
	case "claim", "falseclaim":
		claim := SignClaim(c.keys[3], s.seg, 1, s.State().Next-1, Digest{9})
		if app == "falseclaim" {
			claim.At++
		}
		r = claim.Record()
	case "badseal":
		r = c.sign(c.request(s.seg.Epoch+1), 0).Record()
	}
	before := s.State()
	v := s.Next(millis, r)
	if v.Kind == Data {
		require.NoError(t, v.Entry.Verify(before.Digest))
		require.Equal(t, before.Next, v.LSN)
		require.Equal(t, r, v.Entry.Record)
	} else {
		require.Equal(t, before, s.State(), "what is void leaves no trace")
	}
	if v.Next != nil {
		*opened = v.Next
	}
	return v
}

func describe(v Verdict) string {
	var b strings.Builder
	fmt.Fprint(&b, v.Kind)
	if v.LSN != 0 {
		fmt.Fprintf(&b, " lsn=%d", v.LSN)
	}
	if v.Kind == Data {
		fmt.Fprintf(&b, " epoch=%d millis=%d", v.Entry.Epoch, v.Entry.UnixMilli)
	}
	if v.Next != nil {
		fmt.Fprintf(&b, " opens epoch=%d base=%d", v.Next.Epoch, v.Next.Base)
	}
	if v.Err != nil {
		fmt.Fprintf(&b, ": %v", v.Err)
	}
	return b.String()
}

// TestSequencersAgree: replicas that get the same items, cut into other batches and restarted at other places, are the same.
func TestSequencersAgree(t *testing.T) {
	c := newChain()
	seg := c.segment()
	fresh := func() *Sequencer {
		return NewSequencer(seg, State{Next: 1, Digest: seg.BaseDigest, Window: NewWindow(5, 1)})
	}
	item := func(i int) (uint64, Record) {
		r := Record{App: "app", ID: RecordID{1, uint64(i*i%17) + 1}}
		if i == 70 {
			r = c.seal(2).Record()
		}
		return uint64(i * 37 % 100), r
	}
	whole := fresh()
	var entries []Entry
	for i := range 100 {
		if v := whole.Next(item(i)); v.Kind == Data {
			entries = append(entries, v.Entry)
		}
	}
	require.True(t, whole.State().Sealed)
	require.Equal(t, AppLog, entries[len(entries)-1].Record.App)

	for cut := range 100 {
		first := fresh()
		for i := range cut {
			first.Next(item(i))
		}
		// What a restart has is the entries: the state is rebuilt from them alone.
		st := first.State()
		w := NewWindow(5, max(1, st.Next-min(st.Next-1, 5)))
		for _, e := range entries[w.next-1 : st.Next-1] {
			w.add(e.LSN, e.Record.Key())
		}
		second := NewSequencer(seg, State{Next: st.Next, Digest: st.Digest, UnixMilli: st.UnixMilli, Window: w, Sealed: st.Sealed})
		for i := cut; i < 100; i++ {
			second.Next(item(i))
		}
		want, got := whole.State(), second.State()
		require.Equal(t, want.Window.lsn, got.Window.lsn, "cut at %d", cut)
		want.Window, got.Window = nil, nil
		require.Equal(t, want, got, "cut at %d", cut)
	}
}

// TestForeignIDs: whoever puts an id that he has seen, or foresees, into a record of his own takes nothing from the one whose it is.
func TestForeignIDs(t *testing.T) {
	c := newChain()
	seg := c.segment()
	s := NewSequencer(seg, State{Next: 1, Digest: seg.BaseDigest, Window: NewWindow(64, 1)})
	kind := func(want Kind, lsn LSN, r Record) {
		t.Helper()
		v := s.Next(1, r)
		require.Equal(t, want, v.Kind, "%v", v.Err)
		require.Equal(t, lsn, v.LSN)
	}
	mine := Record{App: "app", ID: RecordID{1, 1}, Payload: []byte("mine")}
	his := Record{App: "app", ID: mine.ID, Payload: []byte("his")}
	kind(Data, 1, his)
	kind(Data, 2, mine)
	kind(Duplicate, 1, his)
	kind(Duplicate, 2, mine)
	kind(Data, 3, Record{App: "ap", ID: mine.ID, Payload: mine.Payload})

	seal := c.seal(2).Record()
	kind(Data, 4, Record{App: "app", ID: seal.ID, Payload: seal.Payload})
	claim := SignClaim(c.keys[3], seg, 1, 4, Digest{9}).Record()
	claim.ID = seal.ID
	kind(Void, 0, claim)
	next, err := nextSegment(seg, Entry{LSN: 6, Epoch: 1, Record: seal})
	require.NoError(t, err)
	kind(Data, 5, Record{App: "app", ID: BaseRecord(next).ID})
	v := s.Next(1, seal)
	require.Equal(t, Data, v.Kind)
	s = NewSequencer(*v.Next, State{Next: v.LSN + 1, Digest: v.Entry.Digest, UnixMilli: v.Entry.UnixMilli, Window: s.State().Window})
	require.Equal(t, BaseRecord(next).ID, BaseRecord(*v.Next).ID, "what will be the Base's id is known before the Seal")
	kind(Based, 0, BaseRecord(*v.Next))
}
