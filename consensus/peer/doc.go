// Package peer is what nodes of one network say to each other: who may connect, frames between the members of an ordering engine, and the log for those who
// follow it.
//
// # Model
//
//	    this node                                                              another node
//
//	engine of an epoch                                                     engine of the epoch
//	   │ Send                                                                    ▲ deliver
//	   ▼                                                                         │ epoch joined? sender is that member? may order?
//	queue, bounded ──► link ══ Engine.Carry, one stream, all epochs ══► guard ───┘
//	(full: dropped)     │                                                 ▲  rights of the key, asked again at each change
//	                    │        mutual TLS 1.3, HTTP/2, one listener     │
//	                    │                                                 ▼
//	LogClient, Peers ───┴══ Log.Append, Read, Follow, Tail, … ════════► guard ───► Log (a consensus.VirtualLog), SnapshotSource
//
//	Roster: key ─► rights, changed by a reconfiguration or the list of observers; consulted at both ends of every arrow
//
// A Node listens, and dials. For each peer that shares an epoch with it there is a link: one connection with one stream in each direction, over which the frames
// of all epochs go, so that two engines that live side by side during a switch share it. The log service has connections of its own: a bulk read must not stand
// in the way of a vote. The messages are in peerpb/peer.proto; they are Connect's, so gRPC's too, and curl's with the right certificate.
//
// # Identity
//
// A node is its Ed25519 key. At its start it makes a certificate that carries the key through TLS and proves nothing by itself: there is no authority, and no
// date that counts. What is checked, at both ends and before the first byte of HTTP:
//
//	the key        proved by TLS 1.3's CertificateVerify; a dialler wants the very key of the member it dials, a listener one that the Roster knows
//	the network    in the name that both certificates bear and that the dialler asks for: <key>.<network id>.ledgerd, in base32
//	TLS            1.3 and h2, no session tickets: each connection proves its key anew
//
// Everybody else is a stranger and does not get through the handshake. A key that loses its rights loses its connections, in both directions, and a call that
// takes a right which its caller has lost is ended, at the next change that the Roster announces.
//
// # Invariants
//
//  1. No byte of HTTP is exchanged with a node whose key the Roster does not know, or that is of another network.
//  2. A frame reaches an engine only if its epoch identity (which binds network, epoch, request and recovery count) is joined here, its sender is the member of
//     that epoch that has the connection's key, its receiver is this node's member, and the Roster lets the key order in the epoch. Nobody looks into it before.
//  3. The size of a message is checked before it is read, and nothing is compressed.
//  4. Send never blocks, and what waits for one peer is at most MaxQueueBytes. Frames are dropped, never delivered to another, and neither doubled nor reordered
//     on one connection.
//  5. When Membership.Close has returned, nothing is delivered any more; when Node.Serve(nil) has, no call uses the log; when Node.Close has, nothing of the node
//     runs.
//  6. An error of the log on the other side satisfies errors.Is for the same sentinels here. Append of a LogClient says ErrUnknownFate whenever a record may have
//     been handed over without an answer; it appends the same record again only.
//  7. What a LogClient returns is dense, and begins where it was asked to. It is not verified: the digest is the caller's. Ends of segments and ready statements
//     are: Peers returns none that does not carry the signatures which it takes.
//  8. A record that was appended here is passed on to a node that orders, once: a node that observes takes nothing from others.
//  9. A snapshot that was fetched is, byte for byte, a file with the SHA-256 that one node offered; its bytes may be of several.
//
// # Threats
//
// Raft trusts its members, and TLS identities are all there is: nothing here helps against a member that lies. Its key lets it say what it likes in its own name
// to an engine, claim any tail, serve any entries (their digests, where the caller has one to begin with, show that), and append any record. What it cannot do
// is speak for another member, or for an epoch in which it is none. An error that names a sentinel says something about the log of the node that sent it, and
// must not be taken for one of the own log: ErrCorrupt from a peer is no reason to stop.
//
// Against strangers: nothing of theirs is parsed but a TLS handshake, which is bounded in time (DialTimeout) and number (maxHandshakes: one more pushes out the
// oldest), so that one who only opens connections delays members who come anew, and nobody who is connected. Who floods the port from many addresses is for the
// network's filters. The names in a ClientHello are in the clear: who listens on the wire learns node keys and network id, which are no secrets.
//
// Against those who may read: calls at a time are bounded by HTTP/2 (128 a connection), each holding one chunk of entries; there is no quota beyond that. Two
// processes with one key are refused by each other, and logged.
//
// # Preparing the next segment
//
// Whoever reads may ask a node to get ready for an epoch: what it takes is not the caller's right but the administrators' signatures, which go with the request,
// and which the log looks at. The two know each other already. The caller is a member of a segment of the chain, or an observer of it; and a next member that has
// never been one follows the log first, so it stands in every node's list of observers before it is named in a request. From when it is prepared until its Seal, the
// members of the request may mesh (View.Prepared); so a next member knows the others from then on. A node that is none of them does not dial a stranger which the
// request names, and says so at once (consensus.ErrUnknownNode).
//
// # Coming back after a long time
//
// What a node knows of the others is in its own chain. While it is behind, those who order now may be strangers to it, and it asks those that it does know: the
// members of its last segment, who have the log though they may no longer order it, and who know it as what it was. With every Seal that it applies it learns the
// next members. If all that it knows have been turned off since, or if it has the genesis alone, it needs somebody to begin with: View.Bootstrap, keys with
// addresses from its configuration. They may be asked, and may ask; they must know this node in turn, as a past member or by their lists of observers. They are
// believed no more than a member is: entries must continue the own chain, and Seals bear signatures.
//
// # What a partition does
//
// A connection is given up when a ping is not answered (Options), and made again after a pause that doubles, with jitter, up to a second; sooner when the
// other side was the first to come back. Frames that have waited longer than MaxQueueAge are not sent any more: the engine has said something newer since.
package peer
