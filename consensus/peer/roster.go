package peer

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"sync"

	"ledgerd/consensus"
)

// Rights are what a node may do here. The zero value is a stranger's: it may not even connect.
type Rights struct {
	Read   bool               // read the log
	Append bool               // hand over records to be ordered
	Order  []consensus.Digest // identities of the epochs in which it takes part in ordering
}

// Stranger reports whether there is nothing that r allows.
func (r Rights) Stranger() bool { return !r.Read && !r.Append && len(r.Order) == 0 }

// Orders reports whether r allows to take part in ordering an epoch.
func (r Rights) Orders(identity consensus.Digest) bool { return slices.Contains(r.Order, identity) }

// A Roster says who is who. It is asked in every handshake, at the start of every call, and about everybody who is connected after each change, so a right
// that is taken away is gone at once. Both methods may be called concurrently and do not block.
type Roster interface {
	// Rights returns what the owner of a key may do. The result is not modified afterwards.
	Rights(key ed25519.PublicKey) Rights
	// Changed returns a channel that is closed at the next change. What Rights returned after the call of Changed is true until then.
	Changed() <-chan struct{}
}

// A View is what a Directory knows: the chain, and who else may come.
type View struct {
	// Segments is the chain, by epoch. Members of the last segment order in it; those of the one before still do in theirs, since a sealed engine stays up
	// until its members know the Seal; those of older ones read, and append as observers do.
	Segments []consensus.Segment
	// Prepared are the segments of signed requests that have no Seal yet: only identity and members count. Their engines mesh before they order.
	Prepared []consensus.Segment
	// Observers read, and append.
	Observers []ed25519.PublicKey
	// Bootstrap are nodes that the configuration names with their addresses, for when the chain that is stored here knows of nobody any more who is there: see
	// "Coming back after a long time" in doc.go. They read, and so can be read from: who is a stranger here is not dialled either. Peers and LogClient do not
	// look here, but ask whom they are told to.
	Bootstrap []consensus.Member
}

// A Directory is the Roster made from a chain and a list of observers. The zero value is not ready; use NewDirectory.
type Directory struct {
	mu struct {
		sync.RWMutex
		rights  map[publicKey]Rights
		changed chan struct{}
	}
}

// NewDirectory returns a directory to which everybody is a stranger.
func NewDirectory() *Directory {
	d := &Directory{}
	d.mu.changed = make(chan struct{})
	return d
}

// Set replaces what the directory knows. Whoever lost a right is disconnected by the Nodes that use the directory.
func (d *Directory) Set(v View) {
	rights := v.rights()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.rights = rights
	close(d.mu.changed)
	d.mu.changed = make(chan struct{})
}

// Rights implements Roster.
func (d *Directory) Rights(key ed25519.PublicKey) Rights {
	k, ok := keyOf(key)
	if !ok {
		return Rights{}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mu.rights[k]
}

// Changed implements Roster.
func (d *Directory) Changed() <-chan struct{} {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mu.changed
}

func (v View) rights() map[publicKey]Rights {
	all := make(map[publicKey]Rights)
	grant := func(key ed25519.PublicKey, order ...consensus.Digest) {
		k, ok := keyOf(key)
		if !ok {
			return // a member without a node key has no peers to talk to
		}
		r := all[k]
		r.Read, r.Append = true, true
		r.Order = append(r.Order, order...)
		all[k] = r
	}
	for i, seg := range v.Segments {
		for _, m := range seg.Spec.Members {
			if i+2 >= len(v.Segments) {
				grant(m.NodeKey, seg.Identity)
			} else {
				grant(m.NodeKey)
			}
		}
	}
	for _, seg := range v.Prepared {
		for _, m := range seg.Spec.Members {
			grant(m.NodeKey, seg.Identity)
		}
	}
	for _, key := range v.Observers {
		grant(key)
	}
	for _, m := range v.Bootstrap {
		if k, ok := keyOf(m.NodeKey); ok {
			r := all[k]
			r.Read = true
			all[k] = r
		}
	}
	return all
}

// A publicKey is an ed25519.PublicKey that can be compared and be the key of a map.
type publicKey [ed25519.PublicKeySize]byte

func keyOf(k ed25519.PublicKey) (publicKey, bool) {
	if len(k) != ed25519.PublicKeySize {
		return publicKey{}, false
	}
	return publicKey(k), true
}

func (k publicKey) is(other ed25519.PublicKey) bool { return bytes.Equal(k[:], other) }
