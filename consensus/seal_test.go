package consensus

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A chain is what the tests of this package seal: a network with three administrators, of whom two must sign.
type chain struct {
	network NetworkID
	spec    Spec
	keys    []ed25519.PrivateKey
}

func newChain() chain {
	c := chain{network: NetworkID(sha256.Sum256([]byte("test network")))}
	for i := range 4 { // the last one is nobody's administrator
		seed := sha256.Sum256(fmt.Append(nil, "key", i))
		c.keys = append(c.keys, ed25519.NewKeyFromSeed(seed[:]))
	}
	c.spec = Spec{
		Engine: "test",
		Params: map[string]string{"b": "2", "a": "1", "c": ""},
		Members: []Member{{
			ID: 1, NodeKey: c.public(3), PeerAddress: "node0:1234", CometAddresses: [2]string{"node0:1", "node0:2"},
		}},
		Admins:    []ed25519.PublicKey{c.public(0), c.public(1), c.public(2)},
		Threshold: 2,
		Ledger:    []byte{1, 2, 3},
	}
	return c
}

func (c chain) public(i int) ed25519.PublicKey { return c.keys[i].Public().(ed25519.PublicKey) }

func (c chain) segment() Segment { return genesisSegment(c.network, c.spec) }

func (c chain) request(epoch Epoch) Request {
	return Request{NetworkID: c.network, Epoch: epoch, Spec: c.spec, NotAfter: 100}
}

// other is another request for the same.
func (c chain) other(epoch Epoch) Request {
	q := c.request(epoch)
	q.NotAfter++
	return q
}

// seal is a good one for an epoch.
func (c chain) seal(epoch Epoch) Seal { return c.sign(c.request(epoch), 0, 2) }

func (c chain) sign(q Request, keys ...int) Seal {
	s := Seal{Request: q, Ready: []Ready{c.ready(q, 3)}}
	for _, k := range keys {
		s.Signatures = append(s.Signatures, q.Sign(c.keys[k]))
	}
	return s
}

// ready is the good statement of a node.
func (c chain) ready(q Request, key int) Ready {
	return SignReady(c.keys[key], q.Hash(), 0, Digest{1}, Digest{2}, 3)
}

func TestValidSeal(t *testing.T) {
	c := newChain()
	q := c.request(2)
	other := q
	other.NotAfter++
	with := func(change func(*Request)) Request {
		q := q
		change(&q)
		return q
	}
	forged := c.sign(q, 0, 1)
	forged.Signatures[1].Bytes = forged.Signatures[0].Bytes
	for name, tc := range map[string]struct {
		seal  Seal
		lsn   LSN
		valid bool
	}{
		"two of three":                  {c.sign(q, 0, 2), 1, true},
		"all three":                     {c.sign(q, 0, 1, 2), 1, true},
		"two and a stranger":            {c.sign(q, 0, 3, 2), 1, true},
		"at the last lsn it is for":     {c.sign(q, 0, 2), 100, true},
		"one past it":                   {c.sign(q, 0, 2), 101, false},
		"one of three":                  {c.sign(q, 1), 1, false},
		"one and a stranger":            {c.sign(q, 1, 3), 1, false},
		"signatures of another request": {Seal{Request: q, Signatures: c.sign(other, 0, 1).Signatures}, 1, false},
		"a forged signature":            {forged, 1, false},
		"another network":               {c.sign(with(func(q *Request) { q.NetworkID[3]++ }), 0, 1), 1, false},
		"the same epoch":                {c.sign(with(func(q *Request) { q.Epoch = 1 }), 0, 1), 1, false},
		"an epoch left out":             {c.sign(with(func(q *Request) { q.Epoch = 3 }), 0, 1), 1, false},
		"members that cannot be ready":  {c.sign(with(func(q *Request) { q.Spec.Members = []Member{{ID: 1}, {ID: 2}} }), 0, 1), 1, false},
		"a member without a key":        {c.sign(with(func(q *Request) { q.Spec.Members = []Member{{ID: 1}} }), 0, 1), 1, false},
		"no members":                    {c.sign(with(func(q *Request) { q.Spec.Members = nil }), 0, 1), 1, false},
	} {
		err := ValidSeal(c.segment(), tc.lsn, tc.seal.Record())
		if tc.valid {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, ErrInvalid, name)
		}
	}
}

// TestReadyQuorum: a Seal needs the statements of a quorum of the next members that agree.
func TestReadyQuorum(t *testing.T) {
	c := newChain()
	for i := range 5 {
		seed := sha256.Sum256(fmt.Append(nil, "member", i))
		c.keys = append(c.keys, ed25519.NewKeyFromSeed(seed[:]))
	}
	q := c.request(2)
	q.Spec.Members = nil
	for i := range 4 {
		q.Spec.Members = append(q.Spec.Members, Member{ID: uint64(i) + 1, NodeKey: c.public(4 + i)})
	}
	other := func(key int, change func(*Ready)) Ready {
		r := c.ready(q, key)
		change(&r)
		return SignReady(c.keys[key], q.Hash(), r.At, r.Digest, r.Head, r.Rules)
	}
	all := func(keys ...int) (rs []Ready) {
		for _, k := range keys {
			rs = append(rs, c.ready(q, k))
		}
		return rs
	}
	elsewhere := q
	elsewhere.NotAfter--
	forged := c.ready(q, 6)
	forged.Bytes[0]++
	for name, tc := range map[string]struct {
		faults FaultModel
		ready  []Ready
		valid  bool
	}{
		"all":                             {CrashFaults, all(4, 5, 6, 7), true},
		"a majority":                      {CrashFaults, all(4, 5, 7), true},
		"half":                            {CrashFaults, all(4, 5), false},
		"nobody":                          {CrashFaults, nil, false},
		"more than two thirds":            {ByzantineFaults, all(4, 5, 6), true},
		"less than two thirds":            {ByzantineFaults, all(4, 5), false},
		"one of them a stranger":          {CrashFaults, all(4, 5, 8), false},
		"one of them for another request": {CrashFaults, append(all(4, 5), c.ready(elsewhere, 6)), false},
		"one of them forged":              {CrashFaults, append(all(4, 5), forged), false},
		"one with another lsn":            {CrashFaults, append(all(4, 5), other(6, func(r *Ready) { r.At++ })), false},
		"one with another digest":         {CrashFaults, append(all(4, 5), other(6, func(r *Ready) { r.Digest[0]++ })), false},
		"one with another head":           {CrashFaults, append(all(4, 5), other(6, func(r *Ready) { r.Head[0]++ })), false},
		"one with other rules":            {CrashFaults, append(all(4, 5), other(6, func(r *Ready) { r.Rules++ })), false},
		"one dissenter of four":           {CrashFaults, append(all(4, 5, 7), other(6, func(r *Ready) { r.Head[0]++ })), true},
	} {
		q := q
		q.Spec.Faults = tc.faults
		s := c.sign(q, 0, 1)
		s.Ready = nil
		for _, r := range tc.ready { // the fault model is part of what they sign
			if r.Verify(c.withFaults(q, CrashFaults).Hash()) {
				i := slices.IndexFunc(c.keys, func(k ed25519.PrivateKey) bool { return r.Key.Equal(k.Public()) })
				r = SignReady(c.keys[i], q.Hash(), r.At, r.Digest, r.Head, r.Rules)
			}
			s.Ready = append(s.Ready, r)
		}
		err := ValidSeal(c.segment(), 50, s.Record())
		if tc.valid {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, ErrInvalid, name)
		}
	}
	early := c.sign(q, 0, 1)
	early.Ready = nil
	for _, k := range []int{4, 5, 6} {
		early.Ready = append(early.Ready, other(k, func(r *Ready) { r.At = 50 }))
	}
	require.ErrorIs(t, ValidSeal(c.segment(), 50, early.Record()), ErrInvalid, "statements about what lies ahead")
	require.NoError(t, ValidSeal(c.segment(), 51, early.Record()))
}

func (c chain) withFaults(q Request, f FaultModel) Request {
	q.Spec.Faults = f
	return q
}

// TestSealTwice: a key that signs twice does not count twice, in whatever order an attacker writes it down.
func TestSealTwice(t *testing.T) {
	c := newChain()
	s := c.sign(c.request(2), 1, 1)
	require.ErrorIs(t, ValidSeal(c.segment(), 1, s.Record()), ErrInvalid)
}

func TestSealWithoutAdministrators(t *testing.T) {
	c := newChain()
	seg := c.segment()
	seg.Spec.Admins, seg.Spec.Threshold = nil, 0
	require.ErrorIs(t, ValidSeal(seg, 1, c.seal(2).Record()), ErrInvalid)
	require.ErrorIs(t, ValidSeal(seg, 1, c.sign(c.request(2)).Record()), ErrInvalid)
}

func TestSealUnknownVersion(t *testing.T) {
	c := newChain()
	r := c.seal(2).Record()
	r.Payload[1] = sealVersion + 1
	require.ErrorIs(t, ValidSeal(c.segment(), 1, r), ErrInvalid)
}

func TestSpecValidate(t *testing.T) {
	require.NoError(t, newChain().spec.Validate())
	require.NoError(t, Spec{Engine: "local"}.Validate())
	long := string(make([]byte, 2000))
	for name, change := range map[string]func(*Spec){
		"no engine":            func(s *Spec) { s.Engine = "" },
		"engine":               func(s *Spec) { s.Engine = "Raft!" },
		"parameter":            func(s *Spec) { s.Params = map[string]string{"": "x"} },
		"long parameter":       func(s *Spec) { s.Params = map[string]string{"x": long} },
		"node key twice":       func(s *Spec) { s.Members = append(s.Members, s.Members[0]); s.Members[1].ID++ },
		"fault model":          func(s *Spec) { s.Faults = 2 },
		"member without id":    func(s *Spec) { s.Members = []Member{{}} },
		"member twice":         func(s *Spec) { s.Members = []Member{{ID: 1}, {ID: 1}} },
		"member's key":         func(s *Spec) { s.Members = []Member{{ID: 1, NodeKey: []byte{1}}} },
		"member's address":     func(s *Spec) { s.Members = []Member{{ID: 1, PeerAddress: long}} },
		"administrator's key":  func(s *Spec) { s.Admins = []ed25519.PublicKey{{1}} },
		"administrator twice":  func(s *Spec) { s.Admins[1] = s.Admins[0] },
		"threshold of 0":       func(s *Spec) { s.Threshold = 0 },
		"threshold too high":   func(s *Spec) { s.Threshold = 4 },
		"threshold of nobody":  func(s *Spec) { s.Admins, s.Threshold = nil, 1 },
		"too large parameters": func(s *Spec) { s.Ledger = make([]byte, MaxLedgerBytes+1) },
	} {
		s := newChain().spec
		change(&s)
		require.ErrorIs(t, s.Validate(), ErrInvalid, name)
	}
}

func TestCanonical(t *testing.T) {
	c := newChain()
	q := c.request(2)
	again, err := DecodeRequest(q.Encode())
	require.NoError(t, err)
	require.Equal(t, q, again)
	require.Equal(t, q.Hash(), again.Hash())

	s := c.sign(q, 2, 0, 1)
	decoded, err := DecodeSeal(s.Encode())
	require.NoError(t, err)
	require.Equal(t, q, decoded.Request)
	require.ElementsMatch(t, s.Signatures, decoded.Signatures)
	require.Equal(t, s.Encode(), decoded.Encode())

	seg := c.segment()
	require.Equal(t, Digest(c.network), seg.BaseDigest)
	decodedSeg, err := DecodeSegment(seg.Encode())
	require.NoError(t, err)
	require.Equal(t, seg, decodedSeg)

	_, err = DecodeRequest(append(q.Encode(), 0))
	require.ErrorIs(t, err, ErrInvalid, "left over")
}

// TestEpochIdentity: it differs with everything that must not be mixed up.
func TestEpochIdentity(t *testing.T) {
	seen := map[Digest]bool{}
	for _, n := range []NetworkID{{1}, {2}} {
		for epoch := range Epoch(3) {
			for _, q := range []Digest{{1}, {2}} {
				for recovery := range uint64(3) {
					id := EpochIdentity(n, epoch, q, recovery)
					require.False(t, seen[id])
					seen[id] = true
				}
			}
		}
	}
}

func TestTextForms(t *testing.T) {
	d := Digest(sha256.Sum256([]byte("x")))
	text, err := d.MarshalText()
	require.NoError(t, err)
	var back Digest
	require.NoError(t, back.UnmarshalText(text))
	require.Equal(t, d, back)
	var id NetworkID
	require.NoError(t, id.UnmarshalText(text))
	require.Equal(t, NetworkID(d), id)
	require.ErrorIs(t, id.UnmarshalText(text[1:]), ErrInvalid)
	require.ErrorIs(t, id.UnmarshalText(append(text[1:], 'x')), ErrInvalid)
	require.Equal(t, NetworkID(d), id, "a bad text changes nothing")
}

// TestSealWithoutKeys: where no member ever had a key, as on a single node, none is asked for.
func TestSealWithoutKeys(t *testing.T) {
	c := newChain()
	for _, members := range [][]Member{nil, {{ID: 1}}} {
		seg, q := c.segment(), c.request(2)
		seg.Spec.Members, q.Spec.Members = members, members
		s := c.sign(q, 0, 2)
		s.Ready = nil
		require.NoError(t, ValidSeal(seg, 1, s.Record()))
	}
}
