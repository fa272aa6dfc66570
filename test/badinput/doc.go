// Package badinput gives a real ledgerd what it should refuse, and breaks the files under it.
//
// Model. A test has a running node and a canary: an account that sends one wei, is answered with a receipt, and remembers it. After
// each bad input the canary sings once more.
//
// What every test demands:
//
//  1. A bad input is answered by an error that says what is wrong, in the words that client libraries match.
//  2. Afterwards the node answers, and a good transaction goes through.
//  3. Nothing that was answered with a receipt is lost or changed, whatever else was sent, and also over a restart.
//  4. A damaged file is found or mended: a node stops, with exit code 65 and the position if the log is damaged, or it answers what
//     it answered before. It never answers something else.
package badinput
