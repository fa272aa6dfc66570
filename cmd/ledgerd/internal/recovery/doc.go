// Package recovery finds out what is left of a log whose last segment has lost its quorum, and proposes how to go on.
//
//	ReadStatus, on each survivor ─► status files ─► Propose ─► consensus.Recovery, signed, and applied to each disk
//
// Invariants:
//
//  1. The log that is proposed is one that a survivor holds, whole, and every other survivor's is a prefix of it, as far as the digests in the status files
//     tell. They tell of the last entries one by one, and of LSNs further and further apart before. What they leave open is said; it is checked for sure when
//     the recovery is applied, and when a survivor that holds less fetches the rest.
//     Behind it comes what one survivor's engine has promised and not applied (Unapplied), of that survivor which would be elected; the recovery is applied there
//     from its own raft log.
//  2. What may be lost, and who has to be kept from going on alone, is said with every proposal.
package recovery
