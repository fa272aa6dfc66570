// Package request is how people ask for the next segment of the log: what is to change, in which words it is shown to those who
// sign, and the files in which a request and the signatures over it travel between administrators who have no node at hand.
//
//	chain of segments ── Change.Apply ──▶ consensus.Spec ──▶ consensus.Request ── Encode ──▶ req.json
//	                                                                │                          │
//	                                                             Compare                    Decode ── Describe ── sign ──▶ signature file
//	                                                          "what changes"                "what this asks for"
//
// A request file has the request twice: readable, and as the bytes that are signed.
//
// Invariants:
//
//  1. What is signed is what was shown: words are made from the bytes. A file whose readable part is not exactly what its bytes say
//     is refused, so that reading the file shows the same.
//  2. A member's id is never given to another node key, and a node that is added gets one that nobody ever had: to an engine an id is a
//     disk, and a disk that was wiped must not answer for what it has forgotten.
//  3. Whatever Apply returns differs from the segment before in what was asked for and in nothing else. The engine's parameters are its
//     own: another engine begins without.
package request
