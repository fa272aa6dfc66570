// Package view is the border between the shared log and the applications above it.
//
// An application is a deterministic state machine, a view of the log in the sense of Tango (SOSP '13) and of the
// applicators of Delos (SOSP '21). Several of them share one log; each sees its own records, in log order. What all
// of them need is here once:
//
//	 Propose(payload)                       Sync()
//	      │  append under a fresh id          │  consistent tail
//	      ▼                                   ▼
//	┌───────────────────── the shared log ─────────────────────┐
//	      │ follow
//	      ▼
//	  reader goroutine ──► Prefetch(entry), far ahead of
//	      │ bounded queue
//	      ▼
//	  apply goroutine  ──► Apply(entry)  ──► wakes the proposer of that record
//
// Invariants:
//
//  1. Apply is called for every entry of the application, in LSN order, from View.Applied()+1 on, each once per opening
//     of the view, and by one goroutine.
//  2. Apply is a function of the state and of the entry. It sees no clock, no randomness and no network; time arrives
//     in the entry.
//  3. A proposer learns the outcome after its record was applied here, so what it reads next holds its own write.
//  4. A view that fails (an error, a panic, a divergence) stops alone: its player names the LSN and ends; the log and
//     the other views go on, and the failed one answers nothing more.
//  5. Durable() never passes Applied(). The log may be trimmed up to the least Durable() of all views, and no further.
//
// Package viewtest is this page as a test suite.
package view
