// Checks a note and its proofs with Go's own packages for checksum databases, and nothing of ours.
//
//	sumdb note VKEY NOTE
//	sumdb inclusion VKEY PROOF.tlog-proof
//	sumdb consistency VKEY OLDER-NOTE NEWER-NOTE HASH...
//
// Exit status: 0 it holds, 1 it does not.
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 4 {
		fail(fmt.Errorf("usage: sumdb note|inclusion|consistency VKEY FILE..."))
	}
	verifier, err := note.NewVerifier(os.Args[2])
	fail(err)
	switch os.Args[1] {
	case "note":
		tree := open(read(os.Args[3]), verifier)
		fmt.Println(tree.N, tree.Hash)
	case "inclusion":
		inclusion(read(os.Args[3]), verifier)
	case "consistency":
		older, newer := open(read(os.Args[3]), verifier), open(read(os.Args[4]), verifier)
		proof := tlog.TreeProof(hashes(os.Args[5:]))
		fail(tlog.CheckTree(proof, newer.N, newer.Hash, older.N, older.Hash))
		fmt.Println(older.N, newer.N)
	default:
		fail(fmt.Errorf("unknown: %s", os.Args[1]))
	}
}

// open verifies a checkpoint's note: origin, size, root, and the log's signature.
func open(text string, verifier note.Verifier) tlog.Tree {
	found, err := note.Open([]byte(text), note.VerifierList(verifier))
	fail(err)
	lines := strings.Split(found.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		fail(fmt.Errorf("not a checkpoint of %s", verifier.Name()))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	fail(err)
	return tlog.Tree{N: size, Hash: hashes(lines[2:3])[0]}
}

// inclusion reads a .tlog-proof whose extra is the record.
func inclusion(text string, verifier note.Verifier) {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		fail(fmt.Errorf("not a tlog-proof"))
	}
	tree := open(checkpoint, verifier)
	extra, isExtra := strings.CutPrefix(lines[1], "extra ")
	number, isIndex := strings.CutPrefix(lines[2], "index ")
	if !isExtra || !isIndex {
		fail(fmt.Errorf("no extra or no index"))
	}
	record, err := base64.StdEncoding.DecodeString(extra)
	fail(err)
	index, err := strconv.ParseInt(number, 10, 64)
	fail(err)
	proof := tlog.RecordProof(hashes(lines[3:]))
	fail(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(record)))
	fmt.Println(index, tree.N)
}

func hashes(lines []string) []tlog.Hash {
	var found []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		fail(err)
		found = append(found, hash)
	}
	return found
}

func read(path string) string {
	data, err := os.ReadFile(path)
	fail(err)
	return string(data)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
