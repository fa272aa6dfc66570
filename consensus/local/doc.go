// Package local is the engine of a log with one member: order is the order in which one goroutine takes appends from a queue, and durable is what
// this node's disk has synced. It is what `ledgerd dev` runs on, and the smallest example of an engine.
//
// # Group commit
//
//	Append ─┐                                   ┌─► acknowledged
//	Append ─┼─► queue (bounded bytes) ─► committer ─► one batch, one fsync ─► ...
//	Append ─┘         ▲                         │
//	                  └── the next batch gathers here while the fsync runs
//
//	committer:
//	  loop
//	    wait until the queue holds something
//	    take what is there, up to MaxBatchBytes, and read the clock once
//	    Replica.Apply(batch, sync)            one fsync for all of it
//	    answer each append with its verdict
//
// There is no timer that waits for company: a lone append is committed at once, and under load the batch is as large as what came in during the last
// fsync. Tried and dropped: letting the first appender commit on behalf of the others. It saves one goroutine switch (some 5 us, against an fsync of
// several hundred), and makes an append's context end the commit of somebody else's.
//
// In memory, the same code runs over a vfs.MemFS, whose sync does nothing.
//
// Invariants, beyond those of package consensus:
//
//  1. An append is either in the queue, or taken by the committer, or answered. Only one in the queue can be withdrawn, and then it is surely not in.
//  2. Whatever waits is bounded by MaxQueueBytes; more appends block until there is room, or their context ends.
//  3. Nothing is answered before the batch that holds it is synced.
package local
