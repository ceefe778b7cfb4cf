// Package backend is what the tools that are front-ends have in common: how they
// find their back-end, what they tell of the memory they share with it, and how
// they give up in order what they made.
//
// What does not belong here: what is done with the back-end then.
package backend
