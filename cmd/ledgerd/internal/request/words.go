package request

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ledgerd/consensus"
	"ledgerd/ledger"
)

// A Line is a fact in words: what it is about, and what it is.
type Line struct{ About, Text string }

// String is the line as scripts get it.
func (l Line) String() string { return l.About + ": " + l.Text }

// Describe says what a request asks for.
func Describe(q consensus.Request) []Line {
	return append([]Line{
		{"request", q.Hash().String()},
		{"network", q.NetworkID.String()},
		{"asks for", fmt.Sprintf("epoch %d, if it is sealed up to lsn %d", q.Epoch, q.NotAfter)},
	}, describe(q.Spec)...)
}

// DescribeRecovery says what a recovery does to the log.
func DescribeRecovery(r consensus.Recovery) []Line {
	return append([]Line{
		{"recovery", r.Hash().String()},
		{"network", r.NetworkID.String()},
		{"ends", fmt.Sprintf("epoch %d after lsn %d, whatever its members have ordered behind it; recovery %d of this epoch", r.Epoch-1, r.Base-1, r.Count)},
		{"log", fmt.Sprintf("digest %v, time %d ms", r.Digest, r.UnixMilli)},
		{"begins", fmt.Sprintf("epoch %d at lsn %d", r.Epoch, r.Base)},
	}, describe(r.Spec)...)
}

func describe(s consensus.Spec) []Line {
	lines := []Line{{"engine", engine(s)}}
	for _, name := range slices.Sorted(maps.Keys(s.Params)) {
		lines = append(lines, Line{"parameter", parameter(name, s.Params[name])})
	}
	for _, m := range s.Members {
		lines = append(lines, Line{"member", member(m)})
	}
	if s.Threshold == 0 {
		lines = append(lines, Line{"administrators", "none: nothing can ever follow it"})
	} else {
		lines = append(lines, Line{"administrators", fmt.Sprintf("%d of these sign what follows it", s.Threshold)})
	}
	for _, k := range s.Admins {
		lines = append(lines, Line{"administrator", fmt.Sprintf("%x", []byte(k))})
	}
	return append(lines, ledgerLines(s.Ledger)...)
}

// Compare says what a request changes in the last segment of the log.
func Compare(last consensus.Spec, q consensus.Request) []Line {
	next := q.Spec
	lines := []Line{{"request", q.Hash().String()}, {"asks for", fmt.Sprintf("epoch %d, if it is sealed up to lsn %d", q.Epoch, q.NotAfter)}}
	before := len(lines)
	if last.Engine != next.Engine || last.Faults != next.Faults {
		lines = append(lines, Line{"engine", engine(last) + " -> " + engine(next)})
	}
	lines = append(lines, compareParams(last.Params, next.Params)...)
	lines = append(lines, compareMembers(last, next)...)
	lines = append(lines, compareAdmins(last, next)...)
	lines = append(lines, ledgerLines(next.Ledger)...)
	if len(lines) == before {
		lines = append(lines, Line{"no change", "the same engine, members, administrators and parameters again"})
	}
	return lines
}

func engine(s consensus.Spec) string {
	return fmt.Sprintf("%s (%d of %d members order; bears %s faults)", s.Engine, s.Quorum(), len(s.Members), s.Faults)
}

func member(m consensus.Member) string {
	text := fmt.Sprintf("%d at %s, node key %x", m.ID, address(m.PeerAddress), []byte(m.NodeKey))
	if len(m.ConsensusKey) > 0 {
		text += fmt.Sprintf(", consensus key %x", []byte(m.ConsensusKey))
	}
	if m.CometAddresses != [2]string{} {
		text += ", CometBFT at " + address(m.CometAddresses[0]) + " and " + address(m.CometAddresses[1])
	}
	return text
}

func address(a string) string {
	if a == "" {
		return "no address"
	}
	return plain(a)
}

func parameter(name, value string) string { return plain(name) + "=" + plain(value) }

// plain quotes what could make a terminal show something else than what is signed.
func plain(s string) string {
	if quoted := strconv.QuoteToASCII(s); quoted != `"`+s+`"` || strings.ContainsAny(s, " =") {
		return quoted
	}
	return s
}

func compareParams(last, next map[string]string) (lines []Line) {
	both := maps.Clone(last)
	if both == nil {
		both = make(map[string]string)
	}
	maps.Copy(both, next)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		was, had := last[name]
		will, has := next[name]
		switch {
		case !had:
			lines = append(lines, Line{"parameter in", parameter(name, will)})
		case !has:
			lines = append(lines, Line{"parameter out", parameter(name, was)})
		case was != will:
			lines = append(lines, Line{"parameter", parameter(name, was) + " -> " + plain(will)})
		}
	}
	return lines
}

func compareMembers(last, next consensus.Spec) (lines []Line) {
	for _, m := range last.Members {
		if _, stays := next.MemberByID(m.ID); !stays {
			lines = append(lines, Line{"member out", member(m)})
		}
	}
	for _, m := range next.Members {
		switch was, known := last.MemberByID(m.ID); {
		case !known:
			lines = append(lines, Line{"member in", member(m)})
		case member(was) != member(m):
			lines = append(lines, Line{"member", member(was) + " -> " + member(m)})
		}
	}
	if len(last.Members) != len(next.Members) && last.Engine == next.Engine { // otherwise the engine's line says it
		lines = append(lines, Line{"quorum", fmt.Sprintf("%d of %d -> %d of %d", last.Quorum(), len(last.Members), next.Quorum(), len(next.Members))})
	}
	return lines
}

func compareAdmins(last, next consensus.Spec) (lines []Line) {
	in := func(s consensus.Spec, key ed25519.PublicKey) bool {
		return slices.ContainsFunc(s.Admins, func(k ed25519.PublicKey) bool { return k.Equal(key) })
	}
	for _, k := range last.Admins {
		if !in(next, k) {
			lines = append(lines, Line{"administrator out", fmt.Sprintf("%x", []byte(k))})
		}
	}
	for _, k := range next.Admins {
		if !in(last, k) {
			lines = append(lines, Line{"administrator in", fmt.Sprintf("%x", []byte(k))})
		}
	}
	if last.Threshold != next.Threshold || len(last.Admins) != len(next.Admins) {
		lines = append(lines, Line{"threshold", fmt.Sprintf("%d of %d -> %d of %d", last.Threshold, len(last.Admins), next.Threshold, len(next.Admins))})
	}
	return lines
}

// ledgerLines says what changes in the ledger.
func ledgerLines(raw []byte) (lines []Line) {
	if len(raw) == 0 {
		return nil
	}
	c, err := ledger.DecodeParameterChange(raw)
	if err != nil {
		return []Line{{"ledger", fmt.Sprintf("%x, which it will not take: %v", raw, err)}}
	}
	if c.GasLimit != nil {
		lines = append(lines, Line{"gas limit", fmt.Sprint(*c.GasLimit)})
	}
	if c.BaseFee != nil {
		lines = append(lines, Line{"base fee", c.BaseFee.String() + " wei"})
	}
	if c.Coinbase != nil {
		lines = append(lines, Line{"coinbase", c.Coinbase.Hex()})
	}
	return lines
}
