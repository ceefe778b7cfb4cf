// Package readme keeps README.md true where that can be checked: what it quotes
// is in the tree, and what it links to exists. There is nothing in it but tests.
package readme
