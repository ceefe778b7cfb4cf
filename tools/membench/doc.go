// Membench measures the memory supply beside DPDK's: what finding an address,
// the heap, mapping pages and starting cost, in both, in turns on the same cores.
//
// Both sides are processes that answer the same questions: this program, with
// an argument, and a small one in C that is built here from dpdk/dpdk.c. The
// runner asks them in turns, in several rounds, and gives medians: what else the
// machine does in a round is in both of its numbers.
//
// What belongs here: the questions, both answers, the table. What does not:
// benchmarks of one thing by itself, which are beside their package.
package main
