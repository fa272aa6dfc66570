package txpool

import (
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
)

// Applied is what became of an entry of the log, whoever appended it.
type Applied struct {
	// Header is the head after the entry, that before it if nothing was included, as Chain's CurrentHeader has it.
	Header *types.Header
	// Included are the transactions of the block, in order. Their senders should be cached in them.
	Included []*types.Transaction
	// Skipped are those that were not valid at their turn.
	Skipped []Skipped
}

// Skipped is a transaction that was not valid at its turn.
type Skipped struct {
	Hash common.Hash
	Tx   *types.Transaction // nil if it does not decode
	Err  error              // why, wrapping the sentinel of go-ethereum's core or of package vm
}

// Applied brings the pool up to date with one more entry. The ledger calls it for every entry that holds a
// transaction, in order and from one goroutine at a time, after Chain shows the state behind it and before the
// entry's Propose returns; and once more, with a Header alone, when the next block is to have another gas limit or base fee.
//
// Included transactions leave, as do others whose nonce is used by now. What was skipped is judged by the reason:
//
//	nonce too low                          dropped; its sender's nonce is read again
//	nonce too high                         kept: one before it was skipped. At the front, its sender's nonce is read again
//	insufficient funds                     kept; its sender is held until the state has changed
//	block gas limit reached                kept, unless it would not fit an empty block either
//	anything else: permissions, gas, type  dropped: it is invalid for good
//
// A nonce can also move without a transaction of the account itself: an EIP-7702 authorization of it was included,
// or its delegated code created a contract. Nobody tells the pool; it learns of it by the first two lines.
func (p *Pool) Applied(a Applied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head.Store(a.Header)
	p.mu.applied++
	now := p.opts.Now()
	touched := make([]*sender, 0, len(a.Included)+len(a.Skipped))
	for _, tx := range a.Included {
		if s := p.included(tx); s != nil {
			touched = append(touched, s)
		}
	}
	for _, skipped := range a.Skipped {
		if e := p.mu.all[skipped.Hash]; e != nil {
			s := p.mu.senders[e.from]
			p.skipped(s, e, skipped.Err, len(a.Included) == 0, now)
			touched = append(touched, s)
		}
	}
	for i, s := range touched {
		if i == 0 || touched[i-1] != s { // nearly for free, and saves most of it for a block of one sender
			p.settle(s)
		}
	}
	p.expire(now)
	p.signal(true)
}

// included takes tx out, and what else its nonce has made void. It returns the sender, or nil if it has nothing here.
func (p *Pool) included(tx *types.Transaction) *sender {
	hash := tx.Hash()
	var from common.Address
	if e := p.mu.all[hash]; e != nil {
		from = e.from
		delete(p.mu.all, hash) // so that leave knows
	} else {
		from, _ = types.Sender(p.signer, tx) // cannot fail for what the ledger has executed
		p.mu.dropped.Remove(hash)            // dropped here, but another node kept it
	}
	s := p.mu.senders[from]
	if s == nil {
		return nil
	}
	s.fresh = false
	s.advance(tx.Nonce()+1, func(e *entry) { p.leave(e, usedNonce(tx.Nonce()+1, e.nonce)) })
	return s
}

// skipped judges a pooled transaction by the reason for which it was skipped. unused tells that the block's gas was all
// there: nothing was included.
func (p *Pool) skipped(s *sender, e *entry, reason error, unused bool, now time.Time) {
	s.fresh = false
	switch {
	case errors.Is(reason, core.ErrNonceTooLow):
		p.drop(s, e, reason, now)
		p.hold(s, strayNonce, now)
	case errors.Is(reason, core.ErrNonceTooHigh):
		if e.nonce == s.nonce {
			p.hold(s, strayNonce, now)
		}
	case errors.Is(reason, core.ErrInsufficientFunds), errors.Is(reason, core.ErrInsufficientFundsForTransfer):
		p.hold(s, lacksFunds, now)
	case errors.Is(reason, core.ErrGasLimitReached):
		if unused { // no block can hold it, and no header has told yet that the limit was lowered
			p.drop(s, e, txpool.ErrGasLimit, now)
		}
	default:
		p.drop(s, e, reason, now)
	}
}

// drop takes out a transaction whose nonce has not been used. What follows it becomes queued.
func (p *Pool) drop(s *sender, e *entry, reason error, now time.Time) {
	i, _ := s.find(e.nonce)
	s.since = now
	p.leave(s.remove(i), reason)
	p.opts.Logger.Debug("transaction dropped", "tx", e.hash, "sender", s.address, "nonce", e.nonce, "err", reason)
}

// hold keeps s from its turn until its state has been read.
func (p *Pool) hold(s *sender, why hold, now time.Time) {
	if s.hold == free {
		s.since = now
	}
	if s.hold != strayNonce { // the stronger reason: its release looks at everything
		s.hold = why
	}
}

// maxRechecks bounds how many held senders are read at a time.
const maxRechecks = 64

// recheck reads the state of some held senders that have not been read since the last entry, lets those go that may
// have a better chance now, and tells whether there were any. The Batcher calls it, and paces it: with thousands of
// held senders each of them has its turn, but no head costs more than one reading of maxRechecks.
func (p *Pool) recheck() bool {
	p.mu.Lock()
	applied := p.mu.applied
	var addresses []common.Address
	for s := p.mu.held.front; s != nil && s.checked != applied && len(addresses) < maxRechecks; s = p.mu.held.next(s) {
		addresses = append(addresses, s.address)
	}
	p.mu.Unlock()
	if len(addresses) == 0 {
		return false
	}
	accounts, err := p.readAccounts(addresses...)
	if err != nil {
		p.opts.Logger.Error("recheck senders", "err", err)
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, address := range addresses {
		s := p.mu.senders[address]
		if s == nil || !s.links[heldList].in {
			continue // gone or let go meanwhile
		}
		s.account, s.fresh, s.checked = accounts[i], p.mu.applied == applied, applied
		p.mu.held.remove(s)
		p.mu.held.pushBack(s)
		p.reconsider(s)
		p.settle(s)
	}
	return true
}

// reconsider lets a held sender go, or not, by its account as just read. The caller settles it.
func (p *Pool) reconsider(s *sender) {
	if s.hold == strayNonce {
		if s.account.nonce < s.nonce && s.fresh {
			s.nonce, s.ready = s.account.nonce, 0
		}
		s.advance(s.account.nonce, func(e *entry) { p.leave(e, usedNonce(s.account.nonce, e.nonce)) })
		s.hold = free
		return
	}
	first := s.list[0] // there is one: what is held and has none is not looked at
	now := attempt{nonce: s.nonce, balance: s.account.balance, first: first.hash}
	if now != s.retried && !s.account.balance.Lt(&first.cost) {
		s.hold, s.retried = free, now
	}
}
