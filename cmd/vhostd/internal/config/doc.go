// Package config says what the daemon was asked to do: ports from --net and from
// a TOML file, checked together. A port's options go through one function, so
// that both spellings mean the same and fail with the same words.
//
// What belongs here: reading, defaults, limits, duplicates, and the place of a
// mistake. What does not: opening sockets, and anything that needs the switch.
package config
